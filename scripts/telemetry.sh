#!/usr/bin/env bash
# The metrics of a gateway under load, its alerts and their tests, as Prometheus' own promtool sees them.
#
#   scripts/telemetry.sh
#   OBLETH_BIN=path              the binary to test (default: the newest build in target/)
#   OBLETH_TEST_REQUIRE=all      no promtool is a failure instead of SKIPPED
#
# Beyond promtool: every series an alert reads is one that the gateway shows, and every alert has a test in which it
# fires and one in which it does not.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
rules=$repo_dir/deploy/prometheus-alerts.yml
rule_tests=$repo_dir/deploy/prometheus-alerts-test.yml
token=telemetry-admin-token-0123456789

main() {
  local bin
  if ! find_promtool; then
    skip "promtool" "$promtool_error"
    return
  fi
  bin=$(obleth_bin)
  begin_work
  start_gateway "$bin"
  load
  curl -fsS --max-time 10 "http://127.0.0.1:$metrics/metrics" >"$work_dir/scrape"
  echo "== promtool check metrics"
  "$promtool" check metrics <"$work_dir/scrape"
  echo "== promtool check rules, test rules"
  "$promtool" check rules "$rules"
  "$promtool" test rules "$rule_tests"
  check_alerts
  echo "telemetry: ok"
}

# The mock and a gateway that shows all it can.
start_gateway() {
  local mock admin log=$work_dir/gateway
  read -r mock proxy admin metrics <<<"$(free_ports 4)"
  api=http://127.0.0.1:$admin/api/v1
  start "$work_dir/mock" "$1" mock --listen "127.0.0.1:$mock" --ttft-ms 5 --token-ms 0 --tokens 5
  wait_ready "$started_pid" "http://127.0.0.1:$mock/stats" 20 "$work_dir/mock"
  start "$log" env RUST_LOG=warn OBLETH_ADMIN_TOKEN="$token" OBLETH_DATABASE_URL="sqlite://$work_dir/telemetry.db" \
    OBLETH_PROXY_LISTEN="127.0.0.1:$proxy" OBLETH_ADMIN_LISTEN="127.0.0.1:$admin" \
    OBLETH_METRICS_LISTEN="127.0.0.1:$metrics" OBLETH_UPSTREAM_BASE_URL="http://127.0.0.1:$mock/v1" \
    OBLETH_GLOBAL_MAX_IN_FLIGHT=2 OBLETH_METRICS_TENANT_LABELS=true "$1" serve
  wait_ready "$started_pid" "http://127.0.0.1:$proxy/ready" 60 "$log"
}

admin_post() {
  curl -fsS --max-time 10 -H "authorization: Bearer $token" -H 'content-type: application/json' -d "$2" "$api/$1"
}

# Whole answers, streams, requests that wait, refusals; names that need escaping.
load() {
  local name id secret url=http://127.0.0.1:$proxy/v1/chat/completions
  local -a secrets=()
  admin_post models '{"model_name":"plain","output_cost_per_token":"0.0000015"}' >"$work_dir/model"
  admin_post models '{"model_name":"odd \"name\" \\ ü"}' >"$work_dir/model"
  for name in 'acme' 'quoted \"name\"'; do
    id=$(admin_post tenants "{\"name\":\"$name\"}" | json 'd["id"]')
    secret=$(admin_post "tenants/$id/keys" '{"name":"k"}' | json 'd["secret"]')
    secrets+=("$secret")
  done
  for secret in "${secrets[@]}" sk_wrong; do
    seq 40 | xargs -P 8 -I{} curl -sS --max-time 20 -o /dev/null -H "authorization: Bearer $secret" \
      -H 'content-type: application/json' "$url" \
      -d '{"model":"plain","max_tokens":5,"stream":true,"messages":[{"role":"user","content":"{}"}]}'
    for name in 'odd \"name\" \\ ü' nobody; do
      curl -sS --max-time 20 -o /dev/null -H "authorization: Bearer $secret" -H 'content-type: application/json' \
        "$url" -d "{\"model\":\"$name\",\"max_tokens\":5,\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}"
    done
  done
}

# What promtool does not look at: an alert on a series or a label that is never there, or without a test, is calm for
# ever.
check_alerts() {
  echo "== alerts against the scrape, and their tests"
  python3 - "$rules" "$rule_tests" "$work_dir/scrape" "$repo_dir/docs/OPERATIONS.md" <<'PY'
import re, sys

rules, tests, scrape, manual = (open(path, encoding="utf-8").read() for path in sys.argv[1:])
shown = {}
for line in scrape.splitlines():
    if found := re.match(r"(\w+)(?:\{(.*)\})? \S+$", line):
        shown.setdefault(found[1], set()).update(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', found[2] or ""))
faults = []
expressions = re.sub(r"annotations:\n(?: {10}.*\n)+", "", re.sub(r"#.*", "", rules))
for name, matchers in re.findall(r"(?<![\w:])(obleth_\w+)(?:\{([^}]*)\})?", expressions):
    if name not in shown:
        faults.append(f"{name} is not on /metrics")
        continue
    for label, how, value in re.findall(r'(\w+)(=~|=)"([^"]*)"', matchers):
        values = {text for own, text in shown[name] if own == label}
        # The status of an error is only there once there was one.
        if label != "status" and not any(re.fullmatch(part, text) for part in value.split("|") for text in values):
            faults.append(f'{name} has no {label}{how}"{value}"')
alerts = re.findall(r"- alert: (\w+)", rules)
for alert in alerts:
    for kind in ("fires", "is calm"):
        if f"name: {alert} {kind}\n" not in tests:
            faults.append(f"no test that {alert} {kind}")
    if f"| `{alert}`" not in manual:
        faults.append(f"{alert} is not in docs/OPERATIONS.md")
print(*faults or [f"{len(alerts)} alerts, each on series that are there, with its tests and its line in the manual"], sep="\n")
sys.exit(1 if faults else 0)
PY
}

main "$@"
