#!/usr/bin/env bash
# Everything the tests need, then the tests.
#
#   ./scripts/test.sh            unit, property, storage (SQLite and PostgreSQL), black-box tests, several replicas, planted faults, official SDKs, schemathesis, promtool
#   OBLETH_TEST_REQUIRE=all      a tool or service that cannot be had is a failure instead of SKIPPED
#
# PostgreSQL and Redis run on private ports with their own data folders and are stopped at the end. HAProxy is installed
# when it is missing and this runs as root; the tests of replicas start it themselves.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/lib.sh

main() {
  trap stop_services EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  start_services
  find_haproxy
  run_rust_tests
  run_planted_faults
  run_real_clients
  run_openapi
  run_telemetry
}

stop_services() {
  local status=$?
  trap - EXIT
  scripts/services.sh stop >/dev/null 2>&1 || echo "scripts/services.sh stop failed" >&2
  exit "$status"
}

start_services() {
  local status=0 variables
  scripts/services.sh start all || status=$?
  if ((status == 3)); then
    skip "tests of services" "PostgreSQL or Redis is not installed and could not be"
  elif ((status != 0)); then
    return "$status"
  fi
  variables=$(scripts/services.sh env)
  eval "$variables"
}

# Debian keeps it where only root looks.
find_haproxy() {
  PATH=$PATH:/usr/sbin
  command -v haproxy >/dev/null && return
  if [[ $(id -u) -eq 0 ]] && command -v apt-get >/dev/null; then
    apt-get install -y --no-install-recommends haproxy >&2 && return
  fi
  skip "tests behind HAProxy" "it is not installed and could not be"
}

# Once on SQLite, with everything; then the black-box tests again on PostgreSQL, but for those that are about time and
# processes and not about the database.
run_rust_tests() {
  if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --workspace --no-fail-fast
    if [[ ${OBLETH_TEST_POSTGRES_URL:-} ]]; then
      echo "== black-box tests on PostgreSQL"
      OBLETH_TEST_BACKEND=postgres cargo nextest run --workspace --no-fail-fast \
        -E 'binary(api) and not test(/^(load|fairness|shares|process)::/)'
    fi
  else
    echo "cargo-nextest is not installed: using cargo test"
    cargo test --workspace --no-fail-fast
    if [[ ${OBLETH_TEST_POSTGRES_URL:-} ]]; then
      echo "== black-box tests on PostgreSQL"
      OBLETH_TEST_BACKEND=postgres cargo test --workspace --test api -- --skip load:: --skip fairness:: --skip shares:: --skip process::
    fi
  fi
}

# Each fault in the list of the fair queue must be caught by its properties; prints which by which. Another build of the
# tests of one crate.
run_planted_faults() {
  echo "== planted faults"
  cargo test -p obleth-core --features planted-faults every_planted_fault_is_caught -- --nocapture
}

# The tests above have built the binary; building it alone would choose other features and compile the world again.
run_real_clients() {
  OBLETH_BIN=${CARGO_TARGET_DIR:-target}/debug/obleth tests/real/run.sh
}

# The management API against its description.
run_openapi() {
  OBLETH_BIN=${CARGO_TARGET_DIR:-target}/debug/obleth scripts/openapi.sh
}

# The metrics of a gateway under load, and the alerts on them.
run_telemetry() {
  OBLETH_BIN=${CARGO_TARGET_DIR:-target}/debug/obleth scripts/telemetry.sh
}

main "$@"
