#!/usr/bin/env bash
# Prints Rust files over 300 lines and functions over 60 lines (tests apart). Prints only: a reader decides.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

git ls-files '*.rs' | python3 -c '
import re, sys

for path in map(str.strip, sys.stdin):
    if "/tests/" in path or path.startswith("tests/") or path.endswith("tests.rs"):
        continue
    lines = open(path, encoding="utf-8").read().splitlines()
    cut = next((n for n, line in enumerate(lines) if line == "#[cfg(test)]"), len(lines))
    if cut > 300:
        print(f"{path}: {cut} lines")
    start = None
    for number, line in enumerate(lines[:cut], 1):
        opening = re.match(r"( *)(pub(\([a-z]+\))? )?(const |async |unsafe )*fn (\w+)", line)
        if start is None and opening:
            start = (number, opening.group(1), opening.group(5))
        if start and (line == start[1] + "}" or (number == start[0] and line.rstrip().endswith("}"))):
            if number - start[0] + 1 > 60:
                print(f"{path}:{start[0]}: fn {start[2]} has {number - start[0] + 1} lines")
            start = None
'
