#!/usr/bin/env bash
# What the scheduler, the ledger and the metrics cost on this machine: the cycle of the fair queue, an admission through
# its actor, a row in the journal, the counters and histograms of a request.
#
# Runs the benchmarks of obleth-core, obleth-actors and obleth and prints one table of their medians; exits 1 when a limit does
# not hold. Half a minute after the build.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

main() {
  begin_work
  cd "$repo_dir"
  cargo bench --locked --quiet -p obleth-core --bench fair_queue | tee "$work_dir/core" >&2
  cargo bench --locked --quiet -p obleth-actors --bench admission | tee "$work_dir/shell" >&2
  cargo bench --locked --quiet -p obleth-actors --bench journal | tee "$work_dir/journal" >&2
  cargo bench --locked --quiet -p obleth --bench telemetry | tee "$work_dir/telemetry" >&2
  report "$work_dir/core" "$work_dir/shell" "$work_dir/journal" "$work_dir/telemetry"
}

report() {
  python3 - "$@" <<'PY'
import re, sys

UNITS = {"ns": 1e-3, "µs": 1.0, "ms": 1e3, "s": 1e6}


def medians(path):
    """Microseconds by name; the cases of a benchmark as `name/case`."""
    found, parent = {}, ""
    for line in open(path, encoding="utf-8"):
        # fastest │ slowest │ median │ mean │ samples │ iters, after the name and its branch of the tree.
        cells = [cell.strip() for cell in line.split("│")]
        branch = re.match(r"^([│ ]*)[├╰]─ (\S+)", line)
        if not branch:
            continue
        nested, name = bool(branch[1]), branch[2]
        # The branch of a nested line may begin with the same sign as a cell does.
        cells = cells[1:] if line.startswith("│") else cells
        value = re.fullmatch(r"([\d.]+) (ns|µs|ms|s)", cells[2]) if len(cells) > 2 else None
        if not nested:
            parent = name
        if value:
            found[f"{parent}/{name}" if nested else name] = float(value[1]) * UNITS[value[2]]
    return found


core, shell, journal, telemetry = map(medians, sys.argv[1:])
rows = [
    *((f"enqueue, grant, release, {n} backlogged", core.get(f"cycle/{n}"), limit)
      for n, limit in ((1, None), (1_000, 2), (10_000, None), (100_000, 4))),
    ("seat past the queue, core alone", core.get("fast_path/1000"), None),
    ("admission, uncontended", shell.get("uncontended"), 2),
    ("admission through the actor, one caller", shell.get("through_the_actor"), None),
    ("admission, 256 callers on 8 slots", shell["callers_256"] / 256 if "callers_256" in shell else None, None),
    ("row appended to the journal", journal.get("append_row"), 2),
    ("open and row of a request", journal.get("open_and_row"), None),
    ("metrics and histograms of a request", telemetry.get("observe"), 1),
    ("the same with series by tenant", telemetry.get("observe_tenants"), 1),
    ("the same by two workers at once", telemetry.get("two_workers"), 1),
]
broken = []
print(f"{'median, µs':46}{'':>9}{'limit':>7}")
for name, value, limit in rows:
    if value is None:
        broken.append(f"{name}: not measured")
        continue
    holds = limit is None or value <= limit
    if not holds:
        broken.append(f"{name}: {value:.2f} over {limit}")
    print(f"{name:46}{value:9.2f}" + ("" if limit is None else f"{limit:7}{'  ok' if holds else '  FAILED'}"))
for line in broken:
    print(f"limit broken: {line}")
sys.exit(1 if broken else 0)
PY
}

main "$@"
