#!/usr/bin/env bash
# Ten million rows on SQLite: what queries over usage cost.
#
#   scripts/bench-ledger.sh            fills a database (some 7 GiB for a few minutes), asks, prints figures and limits
#   OBLETH_BENCH_ROWS=1000000          fewer rows
#   OBLETH_BENCH_FOLDER=<folder>       where; default: a temporary folder, which is removed
#
# Exit codes: 0 done, 1 a limit is missed or something failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec cargo bench --locked --quiet -p obleth-schema --bench ledger
