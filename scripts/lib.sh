# Shared by the scripts that start processes: source it after `set -euo pipefail`.
#
# Every process that is started is remembered by its id and stopped by it, in reverse order, when the script ends.
# Every wait is bounded.
# shellcheck shell=bash

repo_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache_dir=${OBLETH_CACHE_DIR:-$repo_dir/target/real}
started_pids=()
work_dir=

# Makes $work_dir, removed at the end, and sets the trap that stops what was started.
begin_work() {
  work_dir=$(mktemp -d "${TMPDIR:-/tmp}/obleth-work.XXXXXX")
  trap end_work EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

end_work() {
  local status=$? i
  trap - EXIT
  for ((i = ${#started_pids[@]} - 1; i >= 0; i--)); do
    stop_pid "${started_pids[i]}"
  done
  if [[ -n $work_dir ]]; then
    if ((status != 0)) && [[ ${OBLETH_KEEP_LOGS:-} ]]; then
      echo "logs kept in $work_dir" >&2
    else
      rm -rf "$work_dir"
    fi
  fi
  exit "$status"
}

# Keeps the CPUs from falling asleep between two requests: one loop a CPU that runs only when nothing else does
# (SCHED_IDLE). On a virtual machine to wake a CPU takes tens of microseconds, more than what is measured, and hits by luck;
# who measures latencies switches such states off, which a guest cannot. Needs util-linux; says so if it is not there.
keep_awake() {
  local cpu
  if ! command -v chrt >/dev/null || ! command -v taskset >/dev/null; then
    echo "chrt and taskset are not installed: the CPUs may sleep, and latencies with them" >&2
    return
  fi
  for ((cpu = 0; cpu < $(nproc); cpu++)); do
    start "$work_dir/awake" chrt --idle 0 taskset --cpu-list "$cpu" sh -c 'while :; do :; done'
  done
}

# start LOG COMMAND...: runs it in the background, output to LOG; the id is in $started_pid.
start() {
  local log=$1
  shift
  "$@" >"$log" 2>"$log.err" </dev/null &
  started_pid=$!
  started_pids+=("$started_pid")
}

# stop_pid PID: asks, waits ten seconds, then kills.
stop_pid() {
  local pid=$1 i
  kill -TERM "$pid" 2>/dev/null || return 0
  for ((i = 0; i < 100; i++)); do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  if kill -KILL "$pid" 2>/dev/null; then
    echo "process $pid did not stop when asked and was killed" >&2
  fi
  wait "$pid" 2>/dev/null || true
}

# free_ports N: prints N different ports that are free now.
free_ports() {
  python3 - "$1" <<'PY'
import socket, sys
sockets = [socket.socket() for _ in range(int(sys.argv[1]))]
for s in sockets:
    s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in sockets))
PY
}

# wait_for SECONDS WHAT COMMAND...: polls the command until it succeeds.
wait_for() {
  local seconds=$1 what=$2 deadline=$((SECONDS + $1))
  shift 2
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS >= deadline)); then
      echo "gave up after ${seconds}s: $what" >&2
      return 1
    fi
    sleep 0.1
  done
}

# answers URL: whether it answers 2xx within two seconds.
answers() {
  curl -fsS --max-time 2 -o /dev/null "$1"
}

# wait_ready PID URL SECONDS LOG: until the URL answers; at once an error with the log's end when the process has ended.
wait_ready() {
  local pid=$1 url=$2 deadline=$((SECONDS + $3)) log=$4
  until answers "$url" 2>/dev/null; do
    if ! kill -0 "$pid" 2>/dev/null || ((SECONDS >= deadline)); then
      echo "$url does not answer; the end of its log:" >&2
      tail -n 20 "$log" "$log.err" >&2 || true
      return 1
    fi
    sleep 0.1
  done
}

# skip WHAT WHY: says so; an error when everything is required.
skip() {
  echo "SKIPPED $1: $2"
  [[ ${OBLETH_TEST_REQUIRE:-} != all ]]
}

# venv_with NAME REQUIREMENT...: makes (or finds) a virtual environment in the cache; its directory is in $venv.
# Fails when python or the package index is not available; the reason is in $venv_error.
venv_with() {
  local name=$1
  shift
  venv=$cache_dir/$name
  venv_error=
  if [[ -f $venv/.requirements && $(<"$venv/.requirements") == "$*" ]]; then
    return 0
  fi
  if ! command -v python3 >/dev/null; then
    venv_error="python3 is not installed"
    return 1
  fi
  rm -rf "$venv"
  mkdir -p "$cache_dir"
  if ! python3 -m venv "$venv" >"$cache_dir/$name.log" 2>&1; then
    venv_error="python3 -m venv failed, see $cache_dir/$name.log"
    return 1
  fi
  if ! timeout "${OBLETH_INSTALL_SECONDS:-600}" "$venv/bin/pip" install --quiet --disable-pip-version-check "$@" \
    >"$cache_dir/$name.log" 2>&1; then
    venv_error="pip could not install $*, see $cache_dir/$name.log"
    return 1
  fi
  echo "$*" >"$venv/.requirements"
}

# obleth_bin: prints the binary to test: $OBLETH_BIN, or the newest build of this repository.
obleth_bin() {
  if [[ ${OBLETH_BIN:-} ]]; then
    echo "$OBLETH_BIN"
    return
  fi
  local target=${CARGO_TARGET_DIR:-$repo_dir/target} newest
  newest=$(ls -t "$target"/{release,debug}/obleth 2>/dev/null | head -n 1 || true)
  if [[ -z $newest ]]; then
    echo "no obleth binary: build one or set OBLETH_BIN" >&2
    return 1
  fi
  echo "$newest"
}

# json EXPRESSION: reads JSON on standard input into `d` and prints the Python expression.
json() {
  python3 -c '
import json, sys
d = json.load(sys.stdin)
value = eval(sys.argv[1])
print(value if isinstance(value, str) else json.dumps(value))' "$1"
}

# find_promtool: puts the path of a promtool into $promtool: an installed one, or that of Debian's package prometheus,
# which is not installed (it would start a server). Fails when there is none; the reason is in $promtool_error.
find_promtool() {
  local dir=$cache_dir/promtool log=$cache_dir/promtool.log package
  promtool_error=
  promtool=$(command -v promtool || true)
  if [[ $promtool ]]; then
    return 0
  fi
  promtool=$dir/usr/bin/promtool
  if [[ -x $promtool ]]; then
    return 0
  fi
  if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    promtool_error="promtool is not installed, and apt-get is not there to fetch it"
    return 1
  fi
  rm -rf "$dir"
  mkdir -p "$dir"
  if ! fetch_package "$dir" prometheus >"$log" 2>&1; then
    promtool_error="apt-get could not fetch the package prometheus, see $log"
    return 1
  fi
  package=$(ls "$dir"/*.deb)
  dpkg-deb --fsys-tarfile "$package" | tar -x -C "$dir" ./usr/bin/promtool
  rm -f "$package"
  [[ -x $promtool ]]
}

# fetch_package DIRECTORY NAME: the file of a package; the lists are brought up to date if it is not known.
fetch_package() (
  cd "$1"
  timeout 120 apt-get -o APT::Sandbox::User=root download "$2" && return 0
  [[ $(id -u) -eq 0 ]] && timeout 120 apt-get update && timeout 120 apt-get -o APT::Sandbox::User=root download "$2"
)
