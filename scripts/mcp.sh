# The real MCP parts of the tests: servers and clients of others, and a gateway between them. Source it after lib.sh.
# shellcheck shell=bash

mcp_dir=$repo_dir/tests/real/mcp

# Installs the Python SDK and the npm packages; the reason of a failure is in $mcp_error.
mcp_install() {
  local requirements tool dir=$cache_dir/mcp
  mcp_error=
  requirements=$(grep -v '^#' "$mcp_dir/requirements.txt" | tr '\n' ' ')
  # Word splitting is wanted: one requirement a word.
  # shellcheck disable=SC2086
  if ! venv_with mcp-python $requirements; then
    mcp_error=$venv_error
    return 1
  fi
  mcp_python=$venv/bin/python
  for tool in node npm; do
    if ! command -v "$tool" >/dev/null; then
      mcp_error="$tool is not installed"
      return 1
    fi
  done
  mkdir -p "$dir"
  cp "$mcp_dir"/{package.json,package-lock.json,mcp.test.mjs} "$dir"
  if ! (cd "$dir" && timeout 300 npm ci --ignore-scripts --no-audit --no-fund >"$cache_dir/mcp.log" 2>&1); then
    mcp_error="npm ci failed, see $cache_dir/mcp.log"
    return 1
  fi
}

# Starts both servers, and a gateway with them and with keys; exports what the suites need.
mcp_start() {
  local everything reference proxy admin metrics token=mcp-admin-token-0123456789abcdef keys
  read -r everything reference proxy admin metrics <<<"$(free_ports 5)"
  start "$work_dir/everything" env PORT="$everything" \
    node "$cache_dir/mcp/node_modules/@modelcontextprotocol/server-everything/dist/index.js" streamableHttp
  start "$work_dir/reference" "$mcp_python" -B "$mcp_dir/server.py" "$reference"
  start "$work_dir/mcp-gateway" env OBLETH_ADMIN_TOKEN="$token" OBLETH_DATABASE_URL="sqlite://$work_dir/mcp.db" \
    OBLETH_PROXY_LISTEN="127.0.0.1:$proxy" OBLETH_ADMIN_LISTEN="127.0.0.1:$admin" \
    OBLETH_METRICS_LISTEN="127.0.0.1:$metrics" "$1" serve
  export MCP_GATEWAY=http://127.0.0.1:$proxy MCP_REFERENCE=http://127.0.0.1:$reference/mcp
  export MCP_ADMIN=http://127.0.0.1:$admin MCP_ADMIN_TOKEN=$token MCP_PORTS="$everything $reference"
  wait_ready "$started_pid" "$MCP_GATEWAY/ready" 60 "$work_dir/mcp-gateway"
  wait_ready "$started_pid" "http://127.0.0.1:$admin/ready" 60 "$work_dir/mcp-gateway"
  wait_for 60 "the MCP servers listen" mcp_listens "$everything" "$reference"
  keys=$(python3 "$mcp_dir/gateway.py" "http://127.0.0.1:$admin" "$token" \
    "everything=http://127.0.0.1:$everything/mcp" "reference=$MCP_REFERENCE")
  eval "$keys"
  export MCP_KEY MCP_ECHO_KEY
}

# mcp_listens PORT...: whether somebody does at each.
mcp_listens() {
  python3 -c '
import socket, sys
for port in sys.argv[1:]:
    socket.create_connection(("127.0.0.1", int(port)), 1).close()' "$@"
}

# The official clients, through /mcp/{server} and /mcp. Arguments go to pytest.
mcp_clients() {
  local failed=0
  echo "== mcp python client"
  PYTHONDONTWRITEBYTECODE=1 timeout 300 "$mcp_python" -m pytest -q -p no:cacheprovider "$mcp_dir/test_mcp.py" "$@" ||
    failed=1
  echo "== mcp typescript clients"
  (cd "$cache_dir/mcp" && timeout 300 node --test --test-reporter=spec mcp.test.mjs) || failed=1
  return "$failed"
}

# What clients do wrong and what happens to servers; some twenty seconds.
mcp_edges() {
  echo "== mcp edges"
  PYTHONDONTWRITEBYTECODE=1 timeout 120 "$mcp_python" -m pytest -q -rP -p no:cacheprovider "$mcp_dir/test_edges.py"
}
