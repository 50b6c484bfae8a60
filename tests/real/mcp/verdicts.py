"""Two runs of the conformance suite side by side: python verdicts.py REVISION DIRECT_DIR GATEWAY_DIR

Exits 1 when a check went otherwise through the gateway, or when a scored scenario fails.
"""

import json
import pathlib
import re
import sys

# What fails says nothing of the server here: extensions and pending scenarios, which no revision scores.
UNSCORED = re.compile(r"^(tasks-|json-schema-2020-12$|http-custom-header|http-header-validation$|server-s(ession|se-polling))")


def scenarios(folder):
    """Scenario -> check -> the set of its verdicts."""
    found = {}
    for file in sorted(pathlib.Path(folder).glob("server-*/checks.json")):
        name = re.sub(r"-\d{4}-\d\d-\d\dT[\d-]+Z$", "", file.parent.name).removeprefix("server-")
        checks = found.setdefault(name, {})
        for check in json.loads(file.read_text()):
            checks.setdefault(check["id"], []).append(check["status"])
    return found


def told(checks):
    if checks is None:
        return "absent"
    verdicts = [status for all_of_it in checks.values() for status in all_of_it]
    failed = sum(status == "FAILURE" for status in verdicts)
    return f"{'FAILED' if failed else 'passed'} {sum(status == 'SUCCESS' for status in verdicts)}/{failed}"


def main():
    revision, direct, gateway = sys.argv[1], scenarios(sys.argv[2]), scenarios(sys.argv[3])
    wrong = []
    print(f"\nMCP conformance, {revision} (passed/failed checks){'':<10}{'direct':<16}through the gateway")
    for name in sorted(direct.keys() | gateway.keys()):
        here, there = direct.get(name), gateway.get(name)
        same = here == there
        scored = not UNSCORED.match(name)
        failed = scored and told(here).startswith("FAILED")
        mark = "" if scored else " (not scored)"
        print(f"  {name + mark:<58}{told(here):<16}{told(there)}{'' if same else '   DIFFERENT'}")
        if not same:
            for check in sorted((here or {}).keys() | (there or {}).keys()):
                pair = (here or {}).get(check), (there or {}).get(check)
                if pair[0] != pair[1]:
                    print(f"      {check}: {pair[0]} -> {pair[1]}")
        if not same or failed:
            wrong.append(name)
    if not direct:
        wrong.append("nothing ran")
    print(f"  {revision}: " + (f"{len(wrong)} wrong: {', '.join(wrong)}" if wrong else f"{len(direct)} scenarios the same"))
    sys.exit(bool(wrong))


main()
