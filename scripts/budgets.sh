#!/usr/bin/env bash
# What a limit of 60 000 tokens a minute lets through: floods the gateway for three minutes in front of the paced mock.
#
#   ./scripts/budgets.sh
#   OBLETH_BUDGETS_SECONDS=180      how long; the limit is judged from second 60 on
#
# Each client waits exactly `retry-after` after a 429 and sends the same request again. Exits 1 when the tokens served
# from second 60 on are more than 3 % off the limit, or fewer than 95 % of the second tries pass. Needs a built binary.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

token=budgets-admin-token

main() {
  begin_work
  local bin ports proxy admin metrics upstream log
  bin=$(obleth_bin)
  ports=$(free_ports 4)
  read -r proxy admin metrics upstream <<<"$ports"
  start "$work_dir/mock" "$bin" mock --listen "127.0.0.1:$upstream" --ttft-ms 50 --token-ms 2 --slots 64 --tokens 100
  log=$work_dir/gateway
  start "$log" env "OBLETH_PROXY_LISTEN=127.0.0.1:$proxy" "OBLETH_ADMIN_LISTEN=127.0.0.1:$admin" \
    "OBLETH_METRICS_LISTEN=127.0.0.1:$metrics" "OBLETH_ADMIN_TOKEN=$token" \
    "OBLETH_DATABASE_URL=sqlite://$work_dir/obleth.db" "OBLETH_JOURNAL_DIR=$work_dir/journal" \
    "OBLETH_UPSTREAM_BASE_URL=http://127.0.0.1:$upstream/v1" RUST_LOG=warn "$bin" serve
  wait_ready "$started_pid" "http://127.0.0.1:$proxy/ready" 20 "$log"
  python3 "$repo_dir/scripts/budgets.py" "$proxy" "$admin" "$token" "${OBLETH_BUDGETS_SECONDS:-180}"
}

main "$@"
