#!/usr/bin/env bash
# Replays the workloads S1-S10 through `obleth simulate` and prints one table of goals; ends with 1 when one is missed.
#
#   ./scripts/simulate.sh            seeds 0, 1, 2
#   ./scripts/simulate.sh fresh      one that is new each time (and printed); a few in a hundred miss a goal, see
#                                    docs/decisions/0011-churn-floor.md
#   ./scripts/simulate.sh 7 8        these seeds
#   OBLETH_BIN=path                  the binary; without it a release build is made
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/lib.sh

main() {
  local seeds=("$@") binary
  if (($# == 0)); then
    seeds=(0 1 2)
  elif [[ $1 == fresh ]]; then
    seeds=($((RANDOM * 32768 + RANDOM)))
  fi
  if [[ -z ${OBLETH_BIN:-} ]]; then
    cargo build --release --bin obleth
    OBLETH_BIN=${CARGO_TARGET_DIR:-target}/release/obleth
  fi
  binary=$(obleth_bin)
  begin_work
  python3 scripts/scenarios.py write "$work_dir" "${seeds[@]}"
  python3 scripts/scenarios.py judge "$work_dir" "$binary" "${seeds[@]}"
}

main "$@"
