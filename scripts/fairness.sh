#!/usr/bin/env bash
# Who gets how much of a saturated gateway: runs the tests of `tests/api/shares.rs` and prints what they measured.
#
# Each floods a gateway with eight slots in front of the paced mock and judges by the ledger. Prints one table; exits 1
# when a limit does not hold. About a minute after the build.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

main() {
  begin_work
  cd "$repo_dir"
  local status=0
  cargo test --locked --quiet -p obleth --test api shares:: -- --nocapture --test-threads=2 \
    >"$work_dir/out" 2>"$work_dir/err" || status=$?
  python3 - "$work_dir/out" <<'PY'
import re, sys

lines = re.findall(r"SHARE (.*)\|(.*)\|(.*)", open(sys.argv[1], encoding="utf-8").read())
print(f"{'':64}{'measured':>9}  limit")
for what, measured, limit in sorted(lines):
    print(f"{what:64}{measured:>9}  {limit}")
PY
  if ((status != 0)); then
    grep -h -A 2 "panicked at" "$work_dir/out" "$work_dir/err" >&2 || tail -n 20 "$work_dir/err" >&2
    return 1
  fi
}

main "$@"
