#!/usr/bin/env bash
# A hundred thousand keys: how long a start takes, what a key takes of memory, and what authentication costs against ten
# keys. The keys come in as one document (POST /api/v1/config/import), which is timed, too.
#
# Prints one table; exits 1 when a limit does not hold. About a minute and a half after the build.
#
#   OBLETH_BIN=path            the binary to measure (default: cargo build --release)
#   BENCH_KEYS=100000
#   BENCH_ROUNDS=25
#   OBLETH_TEST_REQUIRE=all    a missing tool is a failure instead of SKIPPED
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

many=${BENCH_KEYS:-100000}
few=10
rounds=${BENCH_ROUNDS:-25}
seconds=1 connections=1
# Seconds to /ready; bytes a key beyond the record; p99 over that with few keys.
limit_start=5 limit_bytes=300 limit_p99=1.3
# `size_of::<Key>()`, which a test of obleth-core holds.
record=208
admin_token=bench-admin-token-0123456789abcdef

main() {
  if ! command -v wrk >/dev/null && ! { ((EUID == 0)) && apt-get install -y -qq wrk >/dev/null 2>&1; }; then
    skip "bench-keys" "wrk is not installed and could not be"
    return
  fi
  local bin=${OBLETH_BIN:-}
  if [[ -z $bin ]]; then
    (cd "$repo_dir" && cargo build --release --bin obleth)
    bin=${CARGO_TARGET_DIR:-$repo_dir/target}/release/obleth
  fi
  begin_work
  local count
  for count in $few $many; do
    documents "$count"
    serve "$bin" "$count"
    timed import."$count" import "$count"
    stop_pid "$gateway_pid"
    # What counts is a start with the keys there.
    timed start."$count" serve "$bin" "$count"
    echo "$proxy_port" >"$work_dir/port.$count"
    # Authenticated once: what the first requests allocate is not the keys'.
    burst "$count" 1 >/dev/null
    awk '/^VmRSS/ {print $2}' "/proc/$gateway_pid/status" >"$work_dir/rss.$count"
  done
  local round
  for ((round = 0; round < rounds; round++)); do
    burst "$few" "$seconds" >>"$work_dir/p99.$few"
    burst "$many" "$seconds" >>"$work_dir/p99.$many"
  done
  report
}

# documents COUNT: a document with so many keys, and a wrk script that takes one of them for each request.
documents() {
  python3 - "$1" "$work_dir" <<'PY'
import hashlib, json, random, sys
count, folder = int(sys.argv[1]), sys.argv[2]
draw = random.Random(1)
secrets = ["sk_%048x" % draw.getrandbits(192) for _ in range(count)]
tenants = [{"name": f"tenant {number}"} for number in range(100)]
keys = [
    {"tenant": f"tenant {number % 100}", "name": f"key {number}", "key_prefix": secret[:11],
     "key_hash": hashlib.sha256(secret.encode()).hexdigest()}
    for number, secret in enumerate(secrets)
]
json.dump({"models": [{"model_name": "m"}], "tenants": tenants, "keys": keys}, open(f"{folder}/{count}.json", "w"))
open(f"{folder}/{count}.keys", "w").write("\n".join(secrets) + "\n")
PY
  cat >"$work_dir/$1.lua" <<LUA
-- One text and not a table of a hundred thousand: wrk's own garbage collector would walk that, and it shows in the p99.
local file = io.open("$work_dir/$1.keys")
local keys = file:read("*a")
file:close()
local length = keys:find("\\n")
local count = #keys / length
function init() math.randomseed(7) end
function request()
  local at = math.random(0, count - 1) * length
  -- No two requests are alike whatever the number of keys, or the collector had less to do with few.
  wrk.headers["X-Draw"] = math.random(1e9)
  wrk.headers["Authorization"] = "Bearer " .. keys:sub(at + 1, at + length - 1)
  return wrk.format("GET", "/v1/models")
end
function done(summary, latency)
  local e = summary.errors
  local failed = e.connect + e.read + e.write + e.status + e.timeout
  io.write(string.format("RESULT %d %d %d\n", summary.requests, failed, latency:percentile(99)))
end
LUA
}

# serve BIN COUNT: sets $gateway_pid, $proxy_port and $admin_port.
serve() {
  local metrics_port log=$work_dir/log.$2
  read -r proxy_port admin_port metrics_port <<<"$(free_ports 3)"
  start "$log" env OBLETH_ADMIN_TOKEN="$admin_token" OBLETH_DATABASE_URL="sqlite://$work_dir/$2.db" \
    OBLETH_PROXY_LISTEN="127.0.0.1:$proxy_port" OBLETH_ADMIN_LISTEN="127.0.0.1:$admin_port" \
    OBLETH_METRICS_LISTEN="127.0.0.1:$metrics_port" OBLETH_SHUTDOWN_GRACE_SECS=1 "$1" serve
  gateway_pid=$started_pid
  wait_ready "$gateway_pid" "http://127.0.0.1:$proxy_port/ready" 60 "$log"
}

import() {
  curl -fsS --max-time 120 -o /dev/null -H "authorization: Bearer $admin_token" -H 'content-type: application/json' \
    --data-binary "@$work_dir/$1.json" "http://127.0.0.1:$admin_port/api/v1/config/import"
}

# timed NAME COMMAND...: its milliseconds go to a file of this name.
timed() {
  local name=$1 begun
  shift
  begun=$(date +%s%N)
  "$@"
  echo $((($(date +%s%N) - begun) / 1000000)) >"$work_dir/$name"
}

# burst COUNT SECONDS: prints the p99 in microseconds; an error when a request failed.
burst() {
  local result requests failed p99
  result=$(wrk -t1 -c"$connections" -d"${2}s" -s "$work_dir/$1.lua" "http://127.0.0.1:$(<"$work_dir/port.$1")" |
    sed -n 's/^RESULT //p')
  read -r requests failed p99 <<<"$result"
  if ((failed > 0 || requests == 0)); then
    echo "$failed of $requests requests failed with $1 keys" >&2
    return 1
  fi
  echo "$p99"
}

report() {
  python3 - "$work_dir" "$few" "$many" "$record" "$limit_start" "$limit_bytes" "$limit_p99" <<'PY'
import statistics, sys
folder, few, many, record = sys.argv[1], *map(int, sys.argv[2:5])
limit_start, limit_bytes, limit_p99 = map(float, sys.argv[5:])
numbers = lambda name: [float(line) for line in open(f"{folder}/{name}")]
one = lambda name: numbers(name)[0]
bytes_a_key = (one(f"rss.{many}") - one(f"rss.{few}")) * 1024 / (many - few)
# Of the rounds the lower quartile: what else the machine does only ever adds, and to a p99 by factors.
p99 = {count: statistics.quantiles(numbers(f"p99.{count}"), n=4)[0] for count in (few, many)}
rows = [
    (f"import of {many} keys, s", one(f"import.{many}") / 1000, None),
    (f"start with {many} keys, s", one(f"start.{many}") / 1000, limit_start),
    ("bytes a key, record included", bytes_a_key, record + limit_bytes),
    (f"bytes a key beyond the record of {record}", bytes_a_key - record, limit_bytes),
    (f"p99 of GET /v1/models with {few} keys, µs", p99[few], None),
    (f"p99 of GET /v1/models with {many} keys, µs", p99[many], None),
    ("p99, many keys over few", p99[many] / p99[few], limit_p99),
]
missed = 0
for what, value, limit in rows:
    bad = limit is not None and value > limit
    missed += bad
    print(f"{what:<48} {value:>10.2f}  {'' if limit is None else f'≤ {limit:g}'}{'  MISSED' if bad else ''}")
sys.exit(missed > 0)
PY
}

main "$@"
