#!/usr/bin/env bash
# Other people's software as obleth's upstream and its client: a LiteLLM proxy from PyPI (in front of the mock), and a
# scripted gateway that behaves like Aibrix; MCP: the official servers and clients, and the protocol's conformance suite,
# directly and through the gateway; and a long run of schemathesis over the management API (about ten minutes). Prints
# tables of checks; exits 1 when one FAILED.
#
#   OBLETH_BIN=path            the binary to test (default: the newest build in target/)
#   OBLETH_CACHE_DIR=dir       where LiteLLM is installed (default: target/real); takes some minutes the first time
#   OBLETH_TEST_REQUIRE=all    LiteLLM that cannot be installed is a failure instead of SKIPPED
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$repo_dir/scripts/mcp.sh"

litellm_version=1.106.2
real_dir=$repo_dir/tests/real
export LITELLM_KEY=sk-compat-litellm LITELLM_MODEL=litellm-model

main() {
  local bin litellm=yes failed=0
  bin=$(obleth_bin)
  begin_work
  if ! venv_with litellm "litellm[proxy]==$litellm_version"; then
    skip "litellm" "$venv_error"
    litellm=
  fi
  read -r mock_port litellm_port aibrix_port proxy_port admin_port metrics_port <<<"$(free_ports 6)"
  start_aibrix_like
  if [[ $litellm ]]; then
    start_litellm "$bin"
  fi
  start_obleth "$bin"
  python3 "$real_dir/compat_checks.py" || failed=1
  mcp "$bin" || failed=1
  OBLETH_BIN=$bin "$repo_dir/scripts/openapi.sh" long || failed=1
  return "$failed"
}

mcp() {
  local failed=0
  if ! mcp_install; then
    skip "mcp" "$mcp_error"
    return
  fi
  mcp_start "$1"
  mcp_clients || failed=1
  mcp_edges || failed=1
  "$real_dir/mcp/conformance.sh" || failed=1
  return "$failed"
}

start_aibrix_like() {
  start "$work_dir/aibrix" python3 -B "$real_dir/aibrix_like.py" "$aibrix_port"
  export AIBRIX_URL=http://127.0.0.1:$aibrix_port
  wait_ready "$started_pid" "$AIBRIX_URL/health" 10 "$work_dir/aibrix"
}

# The mock, and LiteLLM with the mock as its backend.
start_litellm() {
  local mock=http://127.0.0.1:$mock_port
  start "$work_dir/mock" "$1" mock --listen "127.0.0.1:$mock_port"
  wait_ready "$started_pid" "$mock/health" 10 "$work_dir/mock"
  cat >"$work_dir/litellm.yaml" <<YAML
model_list:
  - model_name: $LITELLM_MODEL
    litellm_params: {model: openai/demo-model, api_base: "$mock/v1", api_key: upstream-key}
general_settings: {master_key: $LITELLM_KEY}
litellm_settings: {telemetry: false}
YAML
  # Without LITELLM_LOCAL_MODEL_COST_MAP it fetches a price list from the network at start.
  start "$work_dir/litellm" env LITELLM_LOCAL_MODEL_COST_MAP=True PYTHONDONTWRITEBYTECODE=1 \
    "$venv/bin/litellm" --config "$work_dir/litellm.yaml" --host 127.0.0.1 --port "$litellm_port"
  export LITELLM_URL=http://127.0.0.1:$litellm_port
  wait_ready "$started_pid" "$LITELLM_URL/health/liveliness" 120 "$work_dir/litellm"
}

start_obleth() {
  export OBLETH_ADMIN_TOKEN=compat-admin-token-0123456789abcdef
  export OBLETH_URL=http://127.0.0.1:$proxy_port OBLETH_ADMIN_URL=http://127.0.0.1:$admin_port
  start "$work_dir/obleth" env \
    OBLETH_PROXY_LISTEN="127.0.0.1:$proxy_port" OBLETH_ADMIN_LISTEN="127.0.0.1:$admin_port" \
    OBLETH_METRICS_LISTEN="127.0.0.1:$metrics_port" OBLETH_DATABASE_URL="sqlite://$work_dir/obleth.db" \
    OBLETH_UPSTREAM_BASE_URL="$AIBRIX_URL" \
    OBLETH_ENCRYPTION_KEY="$(python3 -c 'import base64; print(base64.b64encode(bytes(range(32))).decode())')" \
    "$1" serve
  wait_ready "$started_pid" "$OBLETH_URL/ready" 60 "$work_dir/obleth"
  wait_ready "$started_pid" "$OBLETH_ADMIN_URL/ready" 60 "$work_dir/obleth"
}

main "$@"
