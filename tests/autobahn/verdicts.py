"""Writes the verdicts of Autobahn, one line a case, and fails when one is neither OK nor informational."""

import collections
import json
import sys

report, results = sys.argv[1:]
with open(report) as file:
    cases = json.load(file)["ringcast"]
by_number = sorted(cases.items(), key=lambda case: [int(part) for part in case[0].split(".")])
count = collections.Counter(verdict["behavior"] for verdict in cases.values())
summary = ", ".join(f"{number} {behavior}" for behavior, number in count.most_common())
with open(results, "w") as file:
    print(f"Autobahn 0.8.2 over proto/examples/echo.rs: {len(cases)} cases, {summary}.\n", file=file)
    for number, verdict in by_number:
        print(f"{number:9}{verdict['behavior']:15}close: {verdict['behaviorClose']}", file=file)
print(f"{len(cases)} cases: {summary}")
bad = [
    number
    for number, verdict in by_number
    if verdict["behavior"] not in ("OK", "INFORMATIONAL") or verdict["behaviorClose"] not in ("OK", "INFORMATIONAL")
]
if bad:
    sys.exit(f"not as they should be: {', '.join(bad)}; see {report.removesuffix('.json')}.html")
