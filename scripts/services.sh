#!/usr/bin/env bash
# PostgreSQL and Redis for tests, on private free ports, thrown away afterwards.
#
#   scripts/services.sh start [postgres|redis|all]   default: postgres; does nothing when it runs already
#   scripts/services.sh env                          prints the variables the tests read
#   scripts/services.sh status                       exit 1 when nothing runs
#   scripts/services.sh stop                         stops what it started and removes its data
#
# OBLETH_SERVICES_DIR (default <repo>/.services) holds the state; different folders do not know each other.
# Exit codes: 0 done, 1 failed, 2 bad usage, 3 a program is missing and cannot be installed.
set -euo pipefail
shopt -s inherit_errexit

repo=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
state=${OBLETH_SERVICES_DIR:-$repo/.services}
# The kernel's limit of a socket path is 107 bytes; the name in the folder needs some of them.
max_socket_dir=85

say() { printf '%s\n' "$*" >&2; }
die() {
  local code=$1
  shift
  say "services: $*"
  exit "$code"
}

# Runs one start or stop at a time on one folder. The servers must not inherit the lock (9>&-).
lock() {
  mkdir -p -- "$state"
  state=$(cd -- "$state" && pwd)
  exec 9>"$state/lock"
  flock 9
}

recorded() { if [[ -f "$state/$1" ]]; then cat -- "$state/$1"; fi; }

install_package() {
  [[ $(id -u) -eq 0 ]] && command -v apt-get >/dev/null || return 1
  say "services: installing $1"
  apt-get install -y --no-install-recommends "$1" >&2 9>&-
}

free_port() {
  local port
  for _ in {1..100}; do
    port=$((20000 + RANDOM % 20000))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      printf '%s' "$port"
      return
    fi
  done
  die 1 "no free port found"
}

# --- PostgreSQL ---------------------------------------------------------------------------------------

find_postgres() {
  local dir
  for dir in /usr/lib/postgresql/15/bin "$(pg_config --bindir 2>/dev/null || true)" /usr/lib/postgresql/*/bin; do
    if [[ -x $dir/initdb && -x $dir/postgres ]]; then
      printf '%s' "$dir"
      return
    fi
  done
  return 1
}

# PostgreSQL refuses to run as root.
postgres_user() {
  local name
  if [[ $(id -u) -ne 0 ]]; then
    id -un
    return
  fi
  for name in postgres nobody; do
    if id -- "$name" >/dev/null 2>&1; then
      printf '%s' "$name"
      return
    fi
  done
  die 1 "no user to run PostgreSQL as (postgres or nobody)"
}

as_postgres() {
  if [[ $(id -u) -eq 0 ]]; then
    runuser -u "$(postgres_user)" -- "$@" 9>&-
  else
    "$@" 9>&-
  fi
}

# In the state folder if PostgreSQL's user can get there, else in a temporary one.
make_data() {
  local data=$state/postgres
  mkdir -p -- "$data"
  if ! (cd / && as_postgres test -x "$state") || ((${#data} > max_socket_dir)); then
    rmdir -- "$data"
    data=$(mktemp -d "${TMPDIR:-/tmp}/obleth-pg.XXXXXX")
  fi
  if [[ $(id -u) -eq 0 ]]; then chown -- "$(postgres_user)" "$data"; fi
  chmod 700 -- "$data"
  printf '%s' "$data"
}

postgres_pid() {
  local data pid
  data=$(recorded postgres.data)
  [[ -n $data && -f $data/postmaster.pid ]] || return 1
  pid=$(head -n 1 -- "$data/postmaster.pid")
  # A number left behind by a crash may belong to another program by now.
  [[ $(ps -o comm= -p "$pid" 2>/dev/null) == postgres* ]] && printf '%s' "$pid"
}

start_postgres() {
  local bin data password port pwfile
  if postgres_pid >/dev/null; then return; fi
  stop_postgres
  bin=$(find_postgres) || { install_package postgresql && bin=$(find_postgres); } ||
    die 3 "PostgreSQL is not installed: install the package postgresql (15 or newer)"
  data=$(make_data)
  printf '%s' "$data" >"$state/postgres.data"
  password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
  (umask 077 && printf '%s' "$password" >"$state/postgres.password")
  cd /
  pwfile=$(as_postgres mktemp)
  as_postgres tee -- "$pwfile" <<<"$password" >/dev/null
  as_postgres "$bin/initdb" -D "$data" -U obleth -A scram-sha-256 -E UTF8 --locale=C.UTF-8 -N \
    --pwfile="$pwfile" >/dev/null
  rm -f -- "$pwfile"
  for _ in {1..10}; do
    port=$(free_port)
    # Without fsync a crash of the machine loses the data, which nobody wants back.
    if as_postgres "$bin/pg_ctl" -D "$data" -w -t 30 -s -l "$data/log" start -o \
      "-p $port -k '$data' -c listen_addresses=127.0.0.1 -c fsync=off -c full_page_writes=off \
       -c synchronous_commit=off -c max_connections=300" >/dev/null 2>&1; then
      printf '%s' "$port" >"$state/postgres.port"
      say "services: PostgreSQL on port $port"
      return
    fi
  done
  tail -n 20 -- "$data/log" >&2 || true
  stop_postgres
  die 1 "PostgreSQL did not start"
}

stop_postgres() {
  local data pid
  data=$(recorded postgres.data)
  if pid=$(postgres_pid); then
    kill -INT "$pid" 2>/dev/null || true # fast shutdown: clients are cut off
    gone "$pid" || kill -QUIT "$pid" 2>/dev/null || true
    gone "$pid" || die 1 "PostgreSQL (process $pid) does not stop"
    say "services: PostgreSQL stopped"
  fi
  # Only what make_data made.
  case $data in
    "$state/postgres" | */obleth-pg.??????) rm -rf -- "$data" ;;
  esac
  rm -f -- "$state"/postgres.{data,port,password}
}

# Waits up to ten seconds for a process to end.
gone() {
  for _ in {1..100}; do
    kill -0 "$1" 2>/dev/null || return 0
    sleep 0.1
  done
  return 1
}

# --- Redis --------------------------------------------------------------------------------------------

redis_pid() {
  local pid
  pid=$(recorded redis.pid)
  [[ -n $pid && $(ps -o comm= -p "$pid" 2>/dev/null) == redis-server* ]] && printf '%s' "$pid"
}

start_redis() {
  local port
  if redis_pid >/dev/null; then return; fi
  stop_redis
  command -v redis-server >/dev/null || install_package redis-server ||
    die 3 "Redis is not installed: install the package redis-server"
  mkdir -p -- "$state/redis"
  for _ in {1..10}; do
    port=$(free_port)
    redis-server --bind 127.0.0.1 --port "$port" --dir "$state/redis" --save '' --appendonly no \
      --daemonize yes --pidfile "$state/redis.pid" --logfile "$state/redis/log" >/dev/null 9>&-
    for _ in {1..50}; do
      if redis_pid >/dev/null && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
        printf '%s' "$port" >"$state/redis.port"
        say "services: Redis on port $port"
        return
      fi
      sleep 0.1
    done
  done
  die 1 "Redis did not start"
}

stop_redis() {
  local pid
  if pid=$(redis_pid); then
    kill -TERM "$pid" 2>/dev/null || true
    gone "$pid" || die 1 "Redis (process $pid) does not stop"
    say "services: Redis stopped"
  fi
  rm -rf -- "$state/redis"
  rm -f -- "$state"/redis.{pid,port}
}

# --- Commands -----------------------------------------------------------------------------------------

print_env() {
  if postgres_pid >/dev/null; then
    printf 'export OBLETH_TEST_POSTGRES_URL=postgres://obleth:%s@127.0.0.1:%s/postgres\n' \
      "$(recorded postgres.password)" "$(recorded postgres.port)"
  fi
  if redis_pid >/dev/null; then
    printf 'export OBLETH_TEST_REDIS_URL=redis://127.0.0.1:%s\n' "$(recorded redis.port)"
  fi
}

status() {
  local running=1
  if postgres_pid >/dev/null; then
    running=0
    printf 'postgres: port %s, data %s\n' "$(recorded postgres.port)" "$(recorded postgres.data)"
  else
    printf 'postgres: stopped\n'
  fi
  if redis_pid >/dev/null; then
    running=0
    printf 'redis: port %s\n' "$(recorded redis.port)"
  else
    printf 'redis: stopped\n'
  fi
  return "$running"
}

usage() { die 2 "usage: $0 start [postgres|redis|all] | stop | status | env"; }

case ${1:-} in
  start)
    lock
    case ${2:-postgres} in
      postgres) start_postgres ;;
      redis) start_redis ;;
      all)
        start_postgres
        start_redis
        ;;
      *) usage ;;
    esac
    ;;
  stop)
    if [[ ! -d $state ]]; then exit 0; fi
    lock
    stop_postgres
    stop_redis
    ;;
  status) status ;;
  env) print_env ;;
  *) usage ;;
esac
