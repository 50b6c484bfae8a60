#!/usr/bin/env bash
# What the ledger survives: kill -9 at 20 random moments, PostgreSQL stopped for 30 s under load, a full disk.
#
#   ./scripts/chaos.sh [kill] [postgres] [disk]     default: all
#   OBLETH_CHAOS_SECONDS=30                         how long PostgreSQL is away
#   OBLETH_TEST_REQUIRE=all                         what cannot be had is a failure instead of SKIPPED
#
# The full disk is a small tmpfs and needs root. About two minutes after the build.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

away=${OBLETH_CHAOS_SECONDS:-30}
token=chaos-admin-token
mounted=
services=

main() {
  local part parts=("$@")
  ((${#parts[@]})) || parts=(kill postgres disk)
  begin_work
  trap end_chaos EXIT
  cd "$repo_dir"
  for part in "${parts[@]}"; do
    case $part in
      kill | postgres | disk) "chaos_$part" ;;
      *)
        echo "usage: $0 [kill] [postgres] [disk]" >&2
        exit 2
        ;;
    esac
  done
}

# What is mounted and what services.sh started goes after what uses it.
end_chaos() {
  local status=$? i
  trap - EXIT
  for ((i = ${#started_pids[@]} - 1; i >= 0; i--)); do stop_pid "${started_pids[i]}"; done
  if [[ $mounted ]]; then umount "$mounted" || status=1; fi
  if [[ $services ]]; then OBLETH_SERVICES_DIR=$services scripts/services.sh stop >/dev/null 2>&1 || status=1; fi
  if ((status != 0)) && [[ ${OBLETH_KEEP_LOGS:-} ]]; then echo "logs kept in $work_dir" >&2; else rm -rf "$work_dir"; fi
  exit "$status"
}

chaos_kill() {
  local seed=${OBLETH_TEST_SEED:-$RANDOM}
  echo "== kill -9 at 20 random moments, seed $seed"
  OBLETH_TEST_KILLS=20 OBLETH_TEST_SEED=$seed cargo test --locked --quiet -p obleth --test api -- process::kill --nocapture
}

# gateway DATABASE_URL VARIABLE=VALUE...: mock and gateway; their addresses in $proxy, $admin, $metrics.
gateway() {
  local bin ports database=$1 log
  shift
  bin=$(obleth_bin)
  ports=$(free_ports 4)
  read -r proxy admin metrics upstream <<<"$ports"
  start "$work_dir/mock" "$bin" mock --listen "127.0.0.1:$upstream" --ttft-ms 5 --token-ms 1 --slots 64 --tokens 8
  log=$work_dir/gateway.$proxy
  start "$log" env "OBLETH_PROXY_LISTEN=127.0.0.1:$proxy" "OBLETH_ADMIN_LISTEN=127.0.0.1:$admin" \
    "OBLETH_METRICS_LISTEN=127.0.0.1:$metrics" "OBLETH_ADMIN_TOKEN=$token" "OBLETH_DATABASE_URL=$database" \
    "OBLETH_ENCRYPTION_KEY=b2JsZXRoLXRlc3RzLXNlYWwtd2l0aC10aGlzLWtleSE=" \
    "OBLETH_UPSTREAM_BASE_URL=http://127.0.0.1:$upstream/v1" RUST_LOG=warn "$@" "$bin" serve
  wait_ready "$started_pid" "http://127.0.0.1:$proxy/ready" 20 "$log"
}

chaos_postgres() {
  local status=0 variables data pid bin owner port
  echo "== PostgreSQL stopped for $away s under load"
  services=$work_dir/services
  OBLETH_SERVICES_DIR=$services scripts/services.sh start postgres || status=$?
  if ((status == 3)); then
    services=
    skip "PostgreSQL away" "PostgreSQL is not installed and could not be"
    return
  fi
  ((status == 0)) || return "$status"
  variables=$(OBLETH_SERVICES_DIR=$services scripts/services.sh env)
  eval "$variables"
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
  python3 scripts/chaos.py postgres "$proxy" "$admin" "$metrics" "$token" "$away" "$work_dir/postgres.sh"
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
  python3 scripts/chaos.py disk "$proxy" "$admin" "$metrics" "$token" "$disk"
}

main "$@"
