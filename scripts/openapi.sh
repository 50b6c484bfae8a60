#!/usr/bin/env bash
# The management API against its own description: schemathesis (PyPI) makes calls out of GET /api/v1/openapi.json, in the
# order that their links say, and finds statuses that are not described, answers that are not as their schema says, 5xx,
# wrong input that is taken, and things that are there after they were deleted.
#
#   scripts/openapi.sh           a short run: under 90 seconds
#   scripts/openapi.sh long      a long one: about ten minutes
#   OBLETH_BIN=path              the binary to test (default: the newest build in target/)
#   OBLETH_CACHE_DIR=dir         where schemathesis is installed (default: target/real)
#   OBLETH_TEST_REQUIRE=all      schemathesis that cannot be installed is a failure instead of SKIPPED
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

schemathesis_version=4.32.5

# Not all of them. Without a token the eleventh call of a minute is a 429, so `ignored_auth` and `missing_required_header`
# find what they do not look for; the table of roles is tried by the Rust tests. `positive_data_acceptance` takes every
# text for a cursor and 7.0 for a whole number. `ensure_resource_availability` does not encode a `%` in a name.
checks=not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance
checks+=,response_schema_conformance,negative_data_rejection,unsupported_method,allow_header_conformance,use_after_free

main() {
  local bin seeds=(1) examples=8
  case ${1:-short} in
    short) ;;
    long)
      seeds=(2 3)
      examples=80
      ;;
    *)
      echo "usage: scripts/openapi.sh [short|long]" >&2
      exit 2
      ;;
  esac
  bin=$(obleth_bin)
  begin_work
  if ! venv_with schemathesis "schemathesis==$schemathesis_version"; then
    skip "schemathesis" "$venv_error"
    return
  fi
  local seed
  for seed in "${seeds[@]}"; do
    start_gateway "$bin" "$seed"
    explore "$seed" "$examples"
  done
}

# A gateway of its own with a model, a tenant, a key and one request.
start_gateway() {
  local proxy admin metrics log=$work_dir/demo.$2 encryption_key
  encryption_key=$(python3 -c 'import base64; print(base64.b64encode(bytes(range(32))).decode())')
  read -r proxy admin metrics <<<"$(free_ports 3)"
  start "$log" env OBLETH_ENCRYPTION_KEY="$encryption_key" \
    OBLETH_PROXY_LISTEN="127.0.0.1:$proxy" OBLETH_ADMIN_LISTEN="127.0.0.1:$admin" \
    OBLETH_METRICS_LISTEN="127.0.0.1:$metrics" "$1" demo
  wait_ready "$started_pid" "http://127.0.0.1:$proxy/ready" 60 "$log"
  wait_for 10 "demo prints its curl line" grep -q '^curl' "$log"
  admin_url=http://127.0.0.1:$admin
  admin_token=$(sed -n 's/^admin token: *//p' "$log")
  bash -c "$(grep -m 1 '^curl' "$log")" >/dev/null
}

explore() {
  local seed=$1 examples=$2 report=$work_dir/report.$1
  echo "== schemathesis, seed $seed, $examples examples an operation"
  # In the working directory, where it leaves its files.
  if ! (cd "$work_dir" && timeout 900 "$venv/bin/schemathesis" run "$admin_url/api/v1/openapi.json" \
    --header "Authorization: Bearer $admin_token" --seed "$seed" --max-examples "$examples" \
    --phases examples,coverage,fuzzing,stateful --checks "$checks" --continue-on-failure \
    --generation-database none --warnings off --no-color) >"$report" 2>&1; then
    cat "$report"
    return 1
  fi
  grep -E '^ +[0-9]+ generated' "$report"
}

main "$@"
