#!/usr/bin/env bash
# What obleth adds to a tool call at one connection, beside what nginx adds in the same run.
#
# The MCP server is an nginx that answers every POST with the same JSON-RPC response. It is called directly, through
# another nginx process, and through /mcp/{server} and /mcp of `obleth serve` with authentication, rights and the ledger on. Rounds
# alternate; medians are compared. Prints one table; exits 1 when a limit does not hold. About a minute.
#
#   OBLETH_BIN=path            the binary to measure (default: the newest build in target/)
#   BENCH_ROUNDS=10
#   OBLETH_TEST_REQUIRE=all    a missing tool is a failure instead of SKIPPED
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Many short rounds: what else the machine does meets all four alike.
rounds=${BENCH_ROUNDS:-10}
seconds=1
# Of what nginx adds.
limit=5

main() {
  local tool bin
  for tool in nginx wrk; do
    if ! command -v "$tool" >/dev/null; then
      skip "bench-mcp" "$tool is not installed"
      return
    fi
  done
  bin=$(obleth_bin)
  begin_work
  keep_awake
  results=$work_dir/results
  read -r server_port nginx_port proxy_port admin_port metrics_port <<<"$(free_ports 5)"
  start_nginx
  start_obleth "$bin"
  request_file server echo
  request_file merged server__echo
  measure
  report
}

# nginx_with NAME: starts an nginx with the configuration of http that it reads.
nginx_with() {
  # nginx's workers may run as another user.
  chmod 711 "$work_dir"
  cat >"$work_dir/$1.conf" <<NGINX
daemon off;
worker_processes 1;
pid $work_dir/$1.pid;
error_log $work_dir/$1-error.log warn;
events { worker_connections 1024; }
http {
  access_log off;
  keepalive_requests 100000000;
  client_body_temp_path $work_dir/$1-body;
  proxy_temp_path $work_dir/$1-proxy;
  fastcgi_temp_path $work_dir/$1-fastcgi;
  uwsgi_temp_path $work_dir/$1-uwsgi;
  scgi_temp_path $work_dir/$1-scgi;
  $(cat)
}
NGINX
  start "$work_dir/$1" nginx -e "$work_dir/$1-error.log" -c "$work_dir/$1.conf"
}

# Two processes, as a server and a proxy are: within one, a worker that calls itself adds next to nothing.
start_nginx() {
  nginx_with server <<NGINX
  server {
    listen 127.0.0.1:$server_port;
    location / {
      default_type application/json;
      return 200 '{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"tools":[{"name":"echo"}],"ttlMs":300000,"cacheScope":"public","content":[{"type":"text","text":"Echo: hello"}]}}';
    }
  }
NGINX
  wait_ready "$started_pid" "http://127.0.0.1:$server_port/" 10 "$work_dir/server"
  nginx_with nginx <<NGINX
  upstream server { server 127.0.0.1:$server_port; keepalive 64; keepalive_requests 100000000; }
  server {
    listen 127.0.0.1:$nginx_port;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    location / { proxy_pass http://server; }
  }
NGINX
  wait_ready "$started_pid" "http://127.0.0.1:$nginx_port/" 10 "$work_dir/nginx"
}

start_obleth() {
  local token=bench-admin-token-0123456789abcdef tenant api=http://127.0.0.1:$admin_port/api/v1
  start "$work_dir/obleth" env OBLETH_ADMIN_TOKEN="$token" OBLETH_DATABASE_URL="sqlite://$work_dir/obleth.db" \
    OBLETH_PROXY_LISTEN="127.0.0.1:$proxy_port" OBLETH_ADMIN_LISTEN="127.0.0.1:$admin_port" \
    OBLETH_METRICS_LISTEN="127.0.0.1:$metrics_port" "$1" serve
  wait_ready "$started_pid" "http://127.0.0.1:$proxy_port/ready" 60 "$work_dir/obleth"
  wait_ready "$started_pid" "http://127.0.0.1:$admin_port/ready" 60 "$work_dir/obleth"
  admin() {
    curl -fsS --max-time 10 -H "authorization: Bearer $token" -H 'content-type: application/json' -d "$2" "$api$1"
  }
  admin /mcp-servers "{\"name\":\"server\",\"upstream_url\":\"http://127.0.0.1:$server_port/mcp\"}" >/dev/null
  tenant=$(admin /tenants '{"name":"bench"}' | json 'd["id"]')
  key=$(admin "/tenants/$tenant/keys" '{"name":"bench","allowed_tools":["server/*"]}' | json 'd["secret"]')
}

# request_file NAME TOOL: a wrk script that calls the tool and prints `RESULT requests failed p50`.
request_file() {
  cat >"$work_dir/$1.lua" <<LUA
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Accept"] = "application/json, text/event-stream"
wrk.headers["Authorization"] = "Bearer $key"
wrk.headers["MCP-Protocol-Version"] = "2026-07-28"
wrk.headers["Mcp-Method"] = "tools/call"
wrk.headers["Mcp-Name"] = "$2"
wrk.body = [[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"$2","arguments":{"message":"hello"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}]]
function done(summary, latency)
  local e = summary.errors
  local failed = e.connect + e.read + e.write + e.status + e.timeout
  io.write(string.format("RESULT %d %d %d\n", summary.requests, failed, latency:percentile(50)))
end
LUA
}

# run TARGET SCRIPT URL: records the p50 of one connection in µs; a failed call is an error.
run() {
  local requests failed p50
  read -r _ requests failed p50 < <(timeout $((seconds + 15)) wrk -t1 -c1 -d"${seconds}s" -s "$work_dir/$2.lua" "$3" |
    grep '^RESULT') || true
  if ((${requests:-0} == 0 || failed > 0)); then
    echo "$1: ${requests:-0} calls, ${failed:-?} failed" >&2
    return 1
  fi
  echo "$1 $p50" >>"$results"
}

measure() {
  local round
  for ((round = 0; round <= rounds; round++)); do
    # The first round warms up.
    ((round == 1)) && : >"$results"
    run direct server "http://127.0.0.1:$server_port/mcp"
    run nginx server "http://127.0.0.1:$nginx_port/mcp"
    run server server "http://127.0.0.1:$proxy_port/mcp/server"
    run merged merged "http://127.0.0.1:$proxy_port/mcp"
  done
}

report() {
  python3 - "$results" "$limit" <<'PY'
import collections, statistics, sys

values = collections.defaultdict(list)
for line in open(sys.argv[1]):
    target, micros = line.split()
    values[target].append(int(micros))
median = {target: statistics.median(found) for target, found in values.items()}
limit = float(sys.argv[2])
# Below a microsecond the clock says nothing.
added = {target: max(value - median["direct"], 1.0) for target, value in median.items()}
failed = False
print(f"{'a tool call at one connection':32}{'p50, µs':>10}{'added':>8}{'of nginx':>10}{'limit':>7}")
for target, name in [("direct", "directly"), ("nginx", "through nginx"), ("server", "/mcp/{server}"), ("merged", "/mcp")]:
    ratio = added[target] / added["nginx"]
    if target in ("direct", "nginx"):
        print(f"{name:32}{median[target]:10.0f}{'' if target == 'direct' else f'{added[target]:8.0f}'}")
        continue
    holds = ratio <= limit
    failed |= not holds
    print(f"{name:32}{median[target]:10.0f}{added[target]:8.0f}{ratio:9.2f}×{limit:6g}×  {'ok' if holds else 'FAILED'}")
sys.exit(failed)
PY
}

main "$@"
