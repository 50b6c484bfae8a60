// The official TypeScript clients, in both eras, through /mcp/{server} and /mcp.
// Needs MCP_GATEWAY (its base URL), MCP_KEY and MCP_ECHO_KEY; servers `everything` and `reference`.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Client as Client1 } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as Transport1 } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { Client as Client2, StreamableHTTPClientTransport as Transport2 } from "@modelcontextprotocol/client";

const info = { name: "obleth-tests", version: "1.0.0" };
// Which client, and which era it ends up in with a server of both.
const clients = {
  "sdk 1": [() => new Client1(info), Transport1, "legacy"],
  "client 2, legacy": [() => new Client2(info), Transport2, "legacy"],
  "client 2, auto": [() => new Client2(info, { versionNegotiation: { mode: "auto" } }), Transport2, "modern"],
  "client 2, pinned": [() => new Client2(info, { versionNegotiation: { mode: { pin: "2026-07-28" } } }), Transport2, "modern"],
};

async function connected(name, path, work, key = "MCP_KEY") {
  const [make, Transport] = clients[name];
  const client = make();
  const requestInit = { headers: { authorization: `Bearer ${process.env[key]}` } };
  const transport = new Transport(new URL(process.env.MCP_GATEWAY + path), { requestInit });
  await client.connect(transport);
  try {
    return await work(client, transport);
  } finally {
    if (transport.sessionId) await transport.terminateSession();
    await client.close();
  }
}

for (const name of Object.keys(clients)) {
  for (const [path, prefixes] of [["/mcp/everything", [""]], ["/mcp/reference", [""]], ["/mcp", ["everything__", "reference__"]]]) {
    if (name === "client 2, pinned" && path === "/mcp/everything") continue;
    test(`${name} lists and calls tools on ${path}`, async () => {
      await connected(name, path, async (client) => {
        const { tools } = await client.listTools();
        for (const prefix of prefixes) {
          assert.ok(tools.some((tool) => tool.name === `${prefix}echo`));
          const result = await client.callTool({ name: `${prefix}echo`, arguments: { message: "hällo" } });
          assert.equal(result.content[0].text, "Echo: hällo");
        }
      });
    });
  }

  test(`${name} sees and calls the one tool of a limited key`, async () => {
    await connected(name === "client 2, pinned" ? "client 2, auto" : name, "/mcp/everything", async (client) => {
      assert.deepEqual((await client.listTools()).tools.map((tool) => tool.name), ["echo"]);
      await client.callTool({ name: "echo", arguments: { message: "x" } });
      await assert.rejects(client.callTool({ name: "get-sum", arguments: { a: 1, b: 2 } }));
    }, "MCP_ECHO_KEY");
  });
}

test("progress and logs come while the call runs", async () => {
  for (const [name, path, tool] of [
    ["sdk 1", "/mcp/everything", "trigger-long-running-operation"],
    ["sdk 1", "/mcp", "everything__trigger-long-running-operation"],
    ["client 2, auto", "/mcp", "everything__trigger-long-running-operation"],
    ["client 2, auto", "/mcp/reference", "test_tool_with_progress"],
  ]) {
    await connected(name, path, async (client) => {
      const seen = [];
      const request = { name: tool, arguments: tool.includes("long") ? { duration: 1, steps: 3 } : {} };
      const options = { onprogress: ({ progress }) => seen.push(progress) };
      const result = await (name === "sdk 1" ? client.callTool(request, undefined, options) : client.callTool(request, options));
      assert.ok(!result.isError);
      assert.ok(seen.length >= 3, `${name} ${path}: ${seen}`);
    });
  }
});

test("a session of another key is none", async () => {
  await connected("sdk 1", "/mcp/everything", async (client, transport) => {
    const headers = { "content-type": "application/json", accept: "application/json, text/event-stream", "mcp-session-id": transport.sessionId };
    const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/list" });
    for (const [key, status] of [["MCP_ECHO_KEY", 404], ["MCP_KEY", 200]]) {
      const answer = await fetch(`${process.env.MCP_GATEWAY}/mcp/everything`, {
        method: "POST", body, headers: { ...headers, authorization: `Bearer ${process.env[key]}` },
      });
      assert.equal(answer.status, status);
      await answer.text();
    }
  });
});
