// Puts a key before requests of a client that cannot: node shim.mjs PORT TARGET_URL KEY
import { createServer, request } from "node:http";

const [port, target, key] = process.argv.slice(2);
const { hostname, port: to, pathname: path } = new URL(target);

createServer((incoming, answer) => {
  const headers = { ...incoming.headers, authorization: `Bearer ${key}` };
  const outgoing = request({ hostname, port: to, path, method: incoming.method, headers }, (came) => {
    answer.writeHead(came.statusCode, came.headers);
    came.pipe(answer);
    came.on("error", () => answer.destroy());
  });
  outgoing.on("error", () => answer.destroy());
  answer.on("close", () => outgoing.destroy());
  incoming.pipe(outgoing);
}).listen(Number(port), "127.0.0.1");
