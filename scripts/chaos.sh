#!/usr/bin/env bash
# What a gateway, and several of them, survive: long forms of tests, and faults that tests do not make. Prints a table.
#
#   ./scripts/chaos.sh [PART...]        default: all
#
#   kill        kill -9 at 20 random moments; one of two replicas killed under load, ten times
#   postgres    PostgreSQL stopped for OBLETH_CHAOS_SECONDS (30) under load
#   disk        the journal's disk is full (a small tmpfs; needs root)
#   registry    how long a change at one replica takes to reach the other
#   fairshare   two and four replicas share slots by weight, for OBLETH_CHAOS_SECS (60) each
#   budgets     a hard budget and a minute over four replicas; Redis lost under a hard budget
#   outages     a replica killed; Redis paused, killed and empty for 10 s, PostgreSQL paused for 30 s, under load
#   cost        CPU a request with two replicas over one
#   haproxy     ten rolling restarts of two replicas under load behind HAProxy; streams through it
#
#   OBLETH_TEST_ROUNDS=10               how often what is done ten times is done
#   OBLETH_BIN                          the binary of postgres, disk and registry; default: the newest build
#   OBLETH_TEST_REQUIRE=all             what cannot be had is a failure instead of SKIPPED
#
# About twenty minutes after the build.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

all_parts=(kill postgres disk registry fairshare budgets outages cost haproxy)
away=${OBLETH_CHAOS_SECONDS:-30}
rounds=${OBLETH_TEST_ROUNDS:-10}
token=chaos-admin-token
mounted=
services=

main() {
  local part parts=("$@")
  ((${#parts[@]})) || parts=("${all_parts[@]}")
  for part in "${parts[@]}"; do
    if [[ " ${all_parts[*]} " != *" $part "* ]]; then
      echo "usage: $0 [${all_parts[*]}]" >&2
      exit 2
    fi
  done
  begin_work
  trap end_chaos EXIT
  cd "$repo_dir"
  PATH=$PATH:/usr/sbin
  for part in "${parts[@]}"; do
    current=$part
    "chaos_$part"
  done
}

# figures COMMAND...: runs it; its lines `FIGURE<tab>what<tab>value<tab>limit` become rows of the table.
figures() {
  local said=$work_dir/said
  { "$@" && echo 0 >"$said.status" || echo "$?" >"$said.status"; } | tee "$said" | { grep -v $'FIGURE\t' || true; }
  sed -n "s/^.*FIGURE\t/$current\t/p" "$said" >>"$work_dir/figures"
  return "$(<"$said.status")"
}

print_table() {
  [[ -s $work_dir/figures ]] || return 0
  echo
  awk -F '\t' '
    BEGIN { printf "%-10s %-62s %14s   %s\n", "part", "figure", "value", "limit" }
    { printf "%-10s %-62s %14s   %s\n", $1, $2, $3, $4 }' "$work_dir/figures"
}

# What is mounted and what services.sh started goes after what uses it.
end_chaos() {
  local status=$? i
  trap - EXIT
  print_table
  for ((i = ${#started_pids[@]} - 1; i >= 0; i--)); do stop_pid "${started_pids[i]}"; done
  if [[ $mounted ]]; then umount "$mounted" || status=1; fi
  if [[ $services ]]; then OBLETH_SERVICES_DIR=$services scripts/services.sh stop >/dev/null 2>&1 || status=1; fi
  if ((status != 0)) && [[ ${OBLETH_KEEP_LOGS:-} ]]; then echo "logs kept in $work_dir" >&2; else rm -rf "$work_dir"; fi
  exit "$status"
}

# need_postgres WHAT: starts PostgreSQL once, its variables in the environment; fails after SKIPPED when it cannot be had.
need_postgres() {
  local status=0 variables
  if [[ -z $services ]]; then
    services=$work_dir/services
    OBLETH_SERVICES_DIR=$services scripts/services.sh start all || status=$?
  fi
  if ((status == 3)); then
    services=
    skip "$1" "PostgreSQL or Redis is not installed and could not be" || exit 1
    return 1
  fi
  ((status == 0)) || exit "$status"
  variables=$(OBLETH_SERVICES_DIR=$services scripts/services.sh env)
  eval "$variables"
  export OBLETH_TEST_POSTGRES_URL OBLETH_TEST_REDIS_URL
}

# replicas FILTER: tests of tests/replicas, one after the other, as often as $rounds says.
replicas() {
  OBLETH_TEST_ROUNDS=$rounds figures cargo test --locked --quiet -p obleth --test replicas -- "$1" --nocapture --test-threads=1
}

chaos_kill() {
  local seed=${OBLETH_TEST_SEED:-$RANDOM}
  echo "== kill -9 at 20 random moments, seed $seed"
  OBLETH_TEST_KILLS=20 OBLETH_TEST_SEED=$seed cargo test --locked --quiet -p obleth --test api -- process::kill --nocapture
  echo "== one of two replicas killed under load, $rounds times"
  need_postgres "a killed replica" || return 0
  replicas haproxy::a_killed_replica
}

chaos_haproxy() {
  echo "== $rounds rounds of rolling restarts behind HAProxy"
  need_postgres "replicas behind HAProxy" || return 0
  replicas haproxy::a_rolling_restart
  replicas haproxy::a_stream
}

# long PART: the long forms of tests of tests/replicas, with a release binary.
long() {
  need_postgres "$1" || return 0
  OBLETH_BIN=$(release_bin) OBLETH_CHAOS_SECS=${OBLETH_CHAOS_SECS:-60} \
    figures cargo test --locked --quiet -p obleth --test replicas -- "$1::" --nocapture --test-threads=1
}

release_bin() {
  if [[ ${OBLETH_BIN:-} ]]; then
    echo "$OBLETH_BIN"
  else
    cargo build --release --locked --quiet >&2
    echo "${CARGO_TARGET_DIR:-target}/release/obleth"
  fi
}

chaos_fairshare() { long fairshare; }
chaos_budgets() { long budgets; }
chaos_outages() { long outages; }
chaos_cost() { long cost; }

chaos_registry() {
  local first
  echo "== changes at one replica, seen at the other"
  need_postgres "changes between replicas" || return 0
  gateway "$OBLETH_TEST_POSTGRES_URL" "OBLETH_REDIS_URL=$OBLETH_TEST_REDIS_URL" "OBLETH_JOURNAL_DIR=$work_dir/journal.1"
  first="$proxy $admin"
  gateway "$OBLETH_TEST_POSTGRES_URL" "OBLETH_REDIS_URL=$OBLETH_TEST_REDIS_URL" "OBLETH_JOURNAL_DIR=$work_dir/journal.2"
  # shellcheck disable=SC2086
  figures python3 scripts/chaos_replicas.py registry "$token" $first "$proxy" "$admin"
  long registry
}

# gateway DATABASE_URL VARIABLE=VALUE...: mock and gateway; their addresses in $proxy, $admin, $metrics.
gateway() {
  local bin ports database=$1 log
  shift
  bin=$(obleth_bin)
  ports=$(free_ports 4)
  read -r proxy admin metrics upstream <<<"$ports"
  start "$work_dir/mock.$upstream" "$bin" mock --listen "127.0.0.1:$upstream" --ttft-ms 5 --token-ms 1 --slots 64 --tokens 8
  log=$work_dir/gateway.$proxy
  start "$log" env "OBLETH_PROXY_LISTEN=127.0.0.1:$proxy" "OBLETH_ADMIN_LISTEN=127.0.0.1:$admin" \
    "OBLETH_METRICS_LISTEN=127.0.0.1:$metrics" "OBLETH_ADMIN_TOKEN=$token" "OBLETH_DATABASE_URL=$database" \
    "OBLETH_ENCRYPTION_KEY=b2JsZXRoLXRlc3RzLXNlYWwtd2l0aC10aGlzLWtleSE=" \
    "OBLETH_UPSTREAM_BASE_URL=http://127.0.0.1:$upstream/v1" RUST_LOG=warn "$@" "$bin" serve
  wait_ready "$started_pid" "http://127.0.0.1:$proxy/ready" 20 "$log"
}

chaos_postgres() {
  local data pid bin owner port
  echo "== PostgreSQL stopped for $away s under load"
  need_postgres "PostgreSQL away" || return 0
  data=$(<"$services/postgres.data")
  port=$(<"$services/postgres.port")
  pid=$(head -n 1 "$data/postmaster.pid")
  bin=$(dirname "$(readlink "/proc/$pid/exe")")
  owner=$(stat -c %U "$data")
  gateway "$OBLETH_TEST_POSTGRES_URL" "OBLETH_JOURNAL_DIR=$work_dir/journal"
  cat >"$work_dir/postgres.sh" <<SH
cd /
as() { if [[ \$(id -u) -eq 0 ]]; then runuser -u "$owner" -- "\$@"; else "\$@"; fi; }
case \$1 in
  stop) as "$bin/pg_ctl" -D "$data" -w -s stop -m fast ;;
  start) as "$bin/pg_ctl" -D "$data" -w -s -l "$data/log" start -o \
    "-p $port -k '$data' -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=300" ;;
esac
SH
  figures python3 scripts/chaos.py postgres "$proxy" "$admin" "$metrics" "$token" "$away" "$work_dir/postgres.sh"
}

chaos_disk() {
  echo "== the journal's disk is full"
  local disk=$work_dir/disk
  mkdir "$disk"
  if ! mount -t tmpfs -o size=2m tmpfs "$disk" 2>/dev/null; then
    skip "full disk" "mounting a tmpfs needs root"
    return
  fi
  mounted=$disk
  gateway "sqlite://$work_dir/disk.db" "OBLETH_JOURNAL_DIR=$disk/journal" OBLETH_JOURNAL_MAX_BYTES=1048576
  figures python3 scripts/chaos.py disk "$proxy" "$admin" "$metrics" "$token" "$disk"
}

main "$@"
