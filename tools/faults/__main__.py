"""`python -m tools.faults [--parts 2000] [NAME ...]`: every fault in turn; a table, and one JSON object with --json."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from .scenarios import SCENARIOS, possible, run


def main() -> int:
    """Run them; exit 1 where a defective part came into the good bin, or no part passed afterwards."""
    parser = argparse.ArgumentParser(prog="python -m tools.faults", description=__doc__)
    parser.add_argument("names", nargs="*", help="only those whose names hold one of these")
    parser.add_argument("--parts", type=int, default=2000, help="of each (2000, at 20 a second)")
    parser.add_argument("--json", type=Path, help="write the figures into this file")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print(f"{'fault':40} escapes  good parts lost  line stops  parts pass again after")
    for scenario in SCENARIOS:
        if args.names and not any(name in scenario.name for name in args.names):
            continue
        if why := possible(scenario):
            print(f"{scenario.name:40} {why}")
            continue
        with tempfile.TemporaryDirectory(prefix="line-") as folder:
            summary = run(scenario, Path(folder), parts=args.parts)
        again = [event["passes_ms"] for event in summary["events"]]
        row = {
            "fault": scenario.name, "parts": summary["parts"], "escapes": summary["escapes"],
            "good_parts_lost": summary["good_rejected"], "unexplained": summary["unexplained"],
            "line_stops": summary["line_stops"], "passes_ms": again,
            "why": dict(Counter(part["why"] for part in summary["gateway"])),
        }  # fmt: skip
        rows.append(row)
        told = ", ".join("not" if ms is None else f"{ms} ms" for ms in again) or "-"
        print(f"{scenario.name:40} {row['escapes']:7} {row['good_parts_lost']:16} {row['line_stops']:11}  {told}")
        if row["escapes"]:
            print(summary["logs"], file=sys.stderr)
    if args.json:
        machine = {"machine": platform.processor() or platform.machine(), "python": platform.python_version()}
        told_all = {"date": time.strftime("%Y-%m-%d"), "parts_each": args.parts, **machine, "faults": rows}
        args.json.write_text(json.dumps(told_all, indent=1) + "\n")
    return 1 if any(row["escapes"] or None in row["passes_ms"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
