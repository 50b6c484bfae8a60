#!/usr/bin/env bash
# What obleth costs over nginx on this machine: CPU per request and per stream, latency added, memory.
#
# The bundled mock (no pace) is called directly, through nginx, and through `obleth serve` with authentication, admission
# and the ledger on. Rounds alternate between the two; the medians are compared.
#
# What the queue costs is measured on a second gateway with 8 slots, in front of a mock that takes 1 ms: with 8
# connections nobody waits, with 64 all do but 8. Upstream runs the same at both, so the difference is the queue.
#
# What a kept answer of the response cache costs is measured on a cached model of the first gateway, in the same rounds.
#
# Prints one table; exits 1 when a limit does not hold. About three minutes after the build.
#
#   OBLETH_BIN=path            the binary to measure (default: cargo build --release)
#   BENCH_ROUNDS=5
#   OBLETH_TEST_REQUIRE=all    a missing tool is a failure instead of SKIPPED
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

rounds=${BENCH_ROUNDS:-5}
json_seconds=3 single_seconds=2 stream_seconds=3
json_connections=16 stream_connections=64
# With the role, the finish and the terminator a stream of 47 tokens has 50 chunks.
stream_tokens=47
slots=8 queued_connections=64 service_ms=1 queue_seconds=3
# obleth over nginx; RSS: MiB; the queue: with it over without it.
limit_cpu=3.5 limit_latency=5 limit_stream=1.5 limit_rss=60 limit_queue=1.6
# A kept answer: CPU over that of a proxied request, p50 over nginx proxying.
limit_hit_cpu=0.6 limit_hit_latency=1

main() {
  local tool
  for tool in nginx wrk; do
    if ! tool_there "$tool"; then
      skip "bench" "$tool is not installed and could not be"
      return
    fi
  done
  local bin=${OBLETH_BIN:-}
  if [[ -z $bin ]]; then
    (cd "$repo_dir" && cargo build --release --bin obleth)
    bin=${CARGO_TARGET_DIR:-$repo_dir/target}/release/obleth
  fi
  begin_work
  keep_awake
  results=$work_dir/results
  read -r mock_port paced_port nginx_json_port nginx_stream_port <<<"$(free_ports 4)"
  start_mock "$bin" mock "$mock_port" 0
  start_mock "$bin" paced "$paced_port" "$service_ms"
  start_nginx
  start_obleth "$bin" queueing "$paced_port" OBLETH_GLOBAL_MAX_IN_FLIGHT="$slots"
  queueing_pid=$obleth_pid queueing_port=$proxy_port
  write_requests queueing
  start_obleth "$bin" obleth "$mock_port"
  write_requests plain
  measure
  report
}

# tool_there TOOL: installs it when this is root on Debian.
tool_there() {
  command -v "$1" >/dev/null && return
  local package=$1
  [[ $1 == nginx ]] && package=nginx-light
  ((EUID == 0)) && command -v apt-get >/dev/null || return 1
  { timeout 120 apt-get update -qq && timeout 180 apt-get install -y -qq --no-install-recommends "$package"; } \
    >/dev/null 2>&1
  command -v "$1" >/dev/null
}

# start_mock BIN NAME PORT SERVICE_MS
start_mock() {
  start "$work_dir/$2" "$1" mock --listen "127.0.0.1:$3" --ttft-ms "$4" --token-ms 0
  wait_ready "$started_pid" "http://127.0.0.1:$3/health" 10 "$work_dir/$2"
}

start_nginx() {
  # nginx's workers may run as another user.
  chmod 711 "$work_dir"
  sed -e "s|@DIR@|$work_dir|g" -e "s|@MOCK_PORT@|$mock_port|g" -e "s|@JSON_PORT@|$nginx_json_port|g" \
    -e "s|@STREAM_PORT@|$nginx_stream_port|g" "$repo_dir/deploy/bench/nginx.conf.template" >"$work_dir/nginx.conf"
  start "$work_dir/nginx" nginx -e "$work_dir/nginx-error.log" -c "$work_dir/nginx.conf"
  nginx_pid=$started_pid
  wait_ready "$nginx_pid" "http://127.0.0.1:$nginx_json_port/health" 10 "$work_dir/nginx"
}

# start_obleth BIN NAME UPSTREAM_PORT [VARIABLE=VALUE...]: sets $obleth_pid, $proxy_port, $admin_port and $key.
start_obleth() {
  local bin=$1 name=$2 upstream_port=$3 metrics_port
  shift 3
  read -r proxy_port admin_port metrics_port <<<"$(free_ports 3)"
  admin_token=bench-admin-token-0123456789abcdef
  start "$work_dir/$name" env "$@" \
    OBLETH_PROXY_LISTEN="127.0.0.1:$proxy_port" OBLETH_ADMIN_LISTEN="127.0.0.1:$admin_port" \
    OBLETH_METRICS_LISTEN="127.0.0.1:$metrics_port" OBLETH_ADMIN_TOKEN="$admin_token" \
    OBLETH_DATABASE_URL="sqlite://$work_dir/$name.db" \
    OBLETH_UPSTREAM_BASE_URL="http://127.0.0.1:$upstream_port/v1" "$bin" serve
  obleth_pid=$started_pid
  wait_ready "$obleth_pid" "http://127.0.0.1:$proxy_port/ready" 60 "$work_dir/$name"
  wait_ready "$obleth_pid" "http://127.0.0.1:$admin_port/ready" 60 "$work_dir/$name"
  register
}

# A model, a tenant and its key; the key is in $key.
register() {
  local tenant
  admin /models '{"model_name":"bench"}' >/dev/null
  admin /models '{"model_name":"kept","upstream_model":"bench","cache_enabled":true,"cache_ttl_secs":3600}' >/dev/null
  tenant=$(admin /tenants '{"name":"bench"}' | json 'd["id"]')
  key=$(admin "/tenants/$tenant/keys" '{"name":"bench"}' | json 'd["secret"]')
}

admin() {
  curl -fsS --max-time 10 -H "authorization: Bearer $admin_token" -H 'content-type: application/json' \
    -d "$2" "http://127.0.0.1:$admin_port/api/v1$1"
}

# write_requests NAME: for the gateway whose key is in $key.
write_requests() {
  local prompt='"messages":[{"role":"user","content":"Say something short about fair queues."}]'
  request_file "$work_dir/$1-json.lua" "{\"model\":\"bench\",\"max_tokens\":8,$prompt}"
  request_file "$work_dir/$1-kept.lua" "{\"model\":\"kept\",\"max_tokens\":8,$prompt}"
  request_file "$work_dir/$1-stream.lua" "{\"model\":\"bench\",\"stream\":true,\"max_tokens\":$stream_tokens,$prompt}"
}

# request_file FILE BODY: a wrk script that posts the body and prints `RESULT requests failed p50`.
request_file() {
  cat >"$1" <<LUA
wrk.method = "POST"
wrk.path = "/v1/chat/completions"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer $key"
wrk.body = [[$2]]
function done(summary, latency)
  local e = summary.errors
  local failed = e.connect + e.read + e.write + e.status + e.timeout
  io.write(string.format("RESULT %d %d %d\n", summary.requests, failed, latency:percentile(50)))
end
LUA
}

# load PORT SCRIPT CONNECTIONS SECONDS: sets $requests and $p50 (µs); a failed request is an error.
load() {
  local failed
  read -r _ requests failed p50 < <(timeout $(($4 + 15)) wrk -t1 -c"$3" -d"$4s" -s "$work_dir/$2.lua" \
    "http://127.0.0.1:$1" | grep '^RESULT') || true
  if ((${requests:-0} == 0 || failed > 0)); then
    echo "load on port $1 ($2): ${requests:-0} requests, ${failed:-?} failed" >&2
    return 1
  fi
}

# cpu_ticks PID: user and system time of the process and its children that live.
cpu_ticks() {
  local pid total=0 stat
  for pid in "$1" $(<"/proc/$1/task/$1/children"); do
    stat=$(<"/proc/$pid/stat")
    # After the name in brackets: fields 3 and on, so utime and stime are the 12th and 13th.
    read -ra stat <<<"${stat##*) }"
    total=$((total + stat[11] + stat[12]))
  done
  echo "$total"
}

# idle_ticks PID: its CPU time once it has done what the load left behind (at most five seconds).
idle_ticks() {
  local before now i
  before=$(cpu_ticks "$1")
  for ((i = 0; i < 20; i++)); do
    sleep 0.25
    now=$(cpu_ticks "$1")
    ((now - before <= 1)) && break
    before=$now
  done
  echo "$now"
}

# cpu_run METRIC TARGET PID PORT SCRIPT CONNECTIONS SECONDS: records the CPU time per request in µs.
cpu_run() {
  local before after tick
  tick=$((1000000 / $(getconf CLK_TCK)))
  before=$(cpu_ticks "$3")
  load "$4" "$5" "$6" "$7"
  after=$(idle_ticks "$3")
  record "$1" "$2" "$(((after - before) * tick * 100 / requests))"
}

# latency_run TARGET PORT: records the p50 of one connection.
latency_run() {
  load "$2" plain-json 1 "$single_seconds"
  record p50 "$1" "$((p50 * 100))"
}

# hit_run: the CPU time per kept answer, and its p50 at one connection.
hit_run() {
  cpu_run hit obleth "$obleth_pid" "$proxy_port" plain-kept "$json_connections" "$json_seconds"
  load "$proxy_port" plain-kept 1 "$single_seconds"
  record hit_p50 obleth "$((p50 * 100))"
}

# record METRIC TARGET HUNDREDTHS
record() {
  echo "$1 $2 $3" >>"$results"
}

# queue_run: the CPU time per request without a queue and with one, in pairs.
queue_run() {
  local alone
  cpu_run queue none "$queueing_pid" "$queueing_port" queueing-json "$slots" "$queue_seconds"
  alone=$p50
  cpu_run queue used "$queueing_pid" "$queueing_port" queueing-json "$queued_connections" "$queue_seconds"
  if ((p50 < 4 * alone)); then
    echo "the queue was hardly used: p50 $alone µs without it, $p50 µs with it" >&2
    return 1
  fi
}

measure() {
  local round
  for port in "$mock_port" "$nginx_json_port" "$proxy_port"; do
    load "$port" plain-json "$json_connections" 1
  done
  load "$proxy_port" plain-kept "$json_connections" 1
  load "$queueing_port" queueing-json "$queued_connections" 1
  for ((round = 1; round <= rounds; round++)); do
    echo "round $round of $rounds" >&2
    cpu_run cpu nginx "$nginx_pid" "$nginx_json_port" plain-json "$json_connections" "$json_seconds"
    cpu_run cpu obleth "$obleth_pid" "$proxy_port" plain-json "$json_connections" "$json_seconds"
    hit_run
    latency_run direct "$mock_port"
    latency_run nginx "$nginx_json_port"
    latency_run obleth "$proxy_port"
    cpu_run stream nginx "$nginx_pid" "$nginx_stream_port" plain-stream "$stream_connections" "$stream_seconds"
    cpu_run stream obleth "$obleth_pid" "$proxy_port" plain-stream "$stream_connections" "$stream_seconds"
    queue_run
  done
  record rss obleth "$(awk '/^VmRSS:/ {print int($2 * 100 / 1024)}' "/proc/$obleth_pid/status")"
}

report() {
  python3 - "$results" "$limit_cpu" "$limit_latency" "$limit_stream" "$limit_rss" "$limit_queue" "$limit_hit_cpu" \
    "$limit_hit_latency" <<'PY'
import collections, statistics, sys

values = collections.defaultdict(list)
for line in open(sys.argv[1]):
    metric, target, value = line.split()
    values[metric, target].append(int(value) / 100)
median = {name: statistics.median(list_) for name, list_ in values.items()}
limits = map(float, sys.argv[2:])
limit_cpu, limit_latency, limit_stream, limit_rss, limit_queue, limit_hit_cpu, limit_hit_latency = limits
direct = median["p50", "direct"]
# Below a microsecond the clock says nothing.
added = {target: max(median["p50", target] - direct, 1.0) for target in ("nginx", "obleth")}

broken = []


def head(*columns):
    print(f"{'':34}{''.join(f'{column:>9}' for column in columns)}{'ratio':>8}{'limit':>8}")


def row(name, direct, nginx, obleth, limit, unit="×"):
    value = obleth / nginx if nginx else obleth
    holds = limit is None or value <= limit
    if not holds:
        broken.append(f"{name}: {value:.2f} over {limit:g}")
    cells = [f"{v:9.1f}" if v is not None else " " * 9 for v in (direct, nginx, obleth)]
    ratio = f"{value:7.2f}×" if nginx else " " * 8
    bound = f"{limit:7g}{unit}" if limit is not None else ""
    print(f"{name:34}{''.join(cells)}{ratio}{bound}{'' if limit is None else '  ok' if holds else '  FAILED'}")


head("direct", "nginx", "obleth")
row("CPU per request, µs", None, median["cpu", "nginx"], median["cpu", "obleth"], limit_cpu)
row("p50 at one connection, µs", direct, median["p50", "nginx"], median["p50", "obleth"], None)
row("p50 added to direct, µs", None, added["nginx"], added["obleth"], limit_latency)
row("CPU per stream of 50 chunks, µs", None, median["stream", "nginx"], median["stream", "obleth"], limit_stream)
row("RSS after the run, MiB", None, None, median["rss", "obleth"], limit_rss, " ")
print()
head("", "no queue", "queue")
row("CPU per request, 8 slots, µs", None, median["queue", "none"], median["queue", "used"], limit_queue)
print()
head("", "proxied", "kept")
row("CPU per kept answer, µs", None, median["cpu", "obleth"], median["hit", "obleth"], limit_hit_cpu)
head("", "nginx", "kept")
row("p50 at one connection, µs", None, median["p50", "nginx"], median["hit_p50", "obleth"], limit_hit_latency)
for line in broken:
    print(f"limit broken: {line}")
sys.exit(1 if broken else 0)
PY
}

main "$@"
