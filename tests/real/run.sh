#!/usr/bin/env bash
# The official client libraries against a running `obleth demo`, and those of MCP against a gateway before real servers.
#
#   tests/real/run.sh            all suites
#   OBLETH_BIN=path              the binary to test (default: the newest build in target/)
#   OBLETH_CACHE_DIR=dir         where the libraries are installed (default: target/real)
#   OBLETH_TEST_REQUIRE=all      a suite that cannot run is a failure instead of SKIPPED
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"
source "$repo_dir/scripts/mcp.sh"
real_dir=$repo_dir/tests/real
# The suites that ran.
ran=

main() {
  local bin failed=0
  bin=$(obleth_bin)
  begin_work
  start_demo "$bin"
  start_waiting "$bin"
  python_suite || failed=1
  node_suite || failed=1
  mcp_suite "$bin" || failed=1
  if ((failed)); then
    echo "real clients: FAILED"
  else
    echo "real clients: ${ran:-nothing ran}"
  fi
  return "$failed"
}

# Starts the demo on ports of its own and exports what the suites need.
start_demo() {
  local proxy admin metrics log=$work_dir/demo
  read -r proxy admin metrics <<<"$(free_ports 3)"
  start "$log" env \
    OBLETH_PROXY_LISTEN="127.0.0.1:$proxy" OBLETH_ADMIN_LISTEN="127.0.0.1:$admin" \
    OBLETH_METRICS_LISTEN="127.0.0.1:$metrics" "$1" demo
  wait_ready "$started_pid" "http://127.0.0.1:$proxy/ready" 60 "$log"
  wait_for 10 "demo prints its curl line" grep -q '^curl' "$log"
  OBLETH_URL=$(printed proxy)
  OBLETH_KEY=$(printed 'api key')
  MOCK_URL=$(printed mock)
  OBLETH_CHAT_MODEL=$(printed model)
  OBLETH_EMBEDDING_MODEL=$(printed embedding)
  export OBLETH_URL OBLETH_KEY MOCK_URL OBLETH_CHAT_MODEL OBLETH_EMBEDDING_MODEL
}

# A gateway with one slot that sends comments to streams that wait, in front of the demo's mock.
start_waiting() {
  local proxy admin metrics log=$work_dir/waiting
  read -r proxy admin metrics <<<"$(free_ports 3)"
  export OBLETH_WAITING_TOKEN=waiting-admin-token-0123456789abcdef
  export OBLETH_WAITING_URL=http://127.0.0.1:$proxy OBLETH_WAITING_ADMIN_URL=http://127.0.0.1:$admin
  start "$log" env OBLETH_ADMIN_TOKEN="$OBLETH_WAITING_TOKEN" OBLETH_DATABASE_URL="sqlite://$work_dir/waiting.db" \
    OBLETH_PROXY_LISTEN="127.0.0.1:$proxy" OBLETH_ADMIN_LISTEN="127.0.0.1:$admin" \
    OBLETH_METRICS_LISTEN="127.0.0.1:$metrics" OBLETH_UPSTREAM_BASE_URL="$MOCK_URL" \
    OBLETH_GLOBAL_MAX_IN_FLIGHT=1 OBLETH_SSE_PING_SECS=1 OBLETH_ADMISSION_TIMEOUT_SECS=4 "$1" serve
  wait_ready "$started_pid" "$OBLETH_WAITING_URL/ready" 60 "$log"
  wait_ready "$started_pid" "$OBLETH_WAITING_ADMIN_URL/ready" 60 "$log"
}

# printed NAME: the value of the demo's line `NAME:   value`.
printed() {
  local value
  value=$(sed -n "s/^$1: *//p" "$work_dir/demo" | head -n 1)
  if [[ -z $value ]]; then
    echo "the demo printed no line \`$1:\`" >&2
    return 1
  fi
  echo "$value"
}

python_suite() {
  local requirements
  requirements=$(grep -v '^#' "$real_dir/python/requirements.txt" | tr '\n' ' ')
  # Word splitting is wanted: one requirement a word.
  # shellcheck disable=SC2086
  if ! venv_with python $requirements; then
    skip "python sdk" "$venv_error"
    return
  fi
  echo "== python sdk"
  ran="${ran:-ok:} python"
  PYTHONDONTWRITEBYTECODE=1 timeout 300 "$venv/bin/python" -m pytest -q -p no:cacheprovider "$real_dir/python"
}

node_suite() {
  local dir=$cache_dir/node tool
  for tool in node npm; do
    if ! command -v "$tool" >/dev/null; then
      skip "node sdk" "$tool is not installed"
      return
    fi
  done
  mkdir -p "$dir"
  cp "$real_dir"/node/{package.json,package-lock.json,openai.test.mjs} "$dir"
  if ! (cd "$dir" && timeout 300 npm ci --ignore-scripts --no-audit --no-fund >"$cache_dir/node.log" 2>&1); then
    skip "node sdk" "npm ci failed, see $cache_dir/node.log"
    return
  fi
  echo "== node sdk"
  ran="${ran:-ok:} node"
  (cd "$dir" && timeout 300 node --test --test-reporter=spec)
}

mcp_suite() {
  if ! mcp_install; then
    skip "mcp" "$mcp_error"
    return
  fi
  ran="${ran:-ok:} mcp"
  mcp_start "$1"
  mcp_clients
}

main "$@"
