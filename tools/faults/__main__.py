"""`python -m tools.faults [--parts 2000] [NAME ...]`: every fault in turn; a table, and one JSON object with --json."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from .scenarios import SCENARIOS, Scenario, possible, run


def main() -> int:
    """Run them; exit 1 where a defective part came into the good bin, or no part passed afterwards."""
    parser = argparse.ArgumentParser(prog="python -m tools.faults", description=__doc__)
    parser.add_argument("names", nargs="*", help="only those whose names hold one of these")
    parser.add_argument("--parts", type=int, default=2000, help="of each (2000, at 20 a second)")
    parser.add_argument("--jobs", type=int, default=1, help="so many lines at the same time (1)")
    parser.add_argument("--json", type=Path, help="write the figures into this file")
    args = parser.parse_args()
    wanted = [each for each in SCENARIOS if not args.names or any(name in each.name for name in args.names)]
    print(f"{'fault':40} escapes  good parts lost  line stops  parts pass again after", flush=True)
    with ThreadPoolExecutor(args.jobs) as pool:
        rows = [row for row in pool.map(partial(_row, parts=args.parts), wanted) if row is not None]
    if args.json:
        machine = {"machine": platform.processor() or platform.machine(), "python": platform.python_version()}
        told_all = {"date": time.strftime("%Y-%m-%d"), "parts_each": args.parts, **machine, "faults": rows}
        args.json.write_text(json.dumps(told_all, indent=1) + "\n")
    return 1 if any(row["escapes"] or None in row["passes_ms"] for row in rows) else 0


def _row(scenario: Scenario, *, parts: int) -> dict[str, Any] | None:
    """Do it and tell; None where it cannot be done here."""
    if why := possible(scenario):
        print(f"{scenario.name:40} {why}", flush=True)
        return None
    with tempfile.TemporaryDirectory(prefix="line-") as folder:
        summary = run(scenario, Path(folder), parts=parts)
    again = [event["passes_ms"] for event in summary["events"]]
    row = {
        "fault": scenario.name, "parts": summary["parts"], "escapes": summary["escapes"],
        "good_parts_lost": summary["good_rejected"], "unexplained": summary["unexplained"],
        "line_stops": summary["line_stops"], "passes_ms": again,
        "why": dict(Counter(part["why"] for part in summary["gateway"])),
    }  # fmt: skip
    told = ", ".join("not" if ms is None else f"{ms} ms" for ms in again) or "-"
    print(
        f"{scenario.name:40} {row['escapes']:7} {row['good_parts_lost']:16} {row['line_stops']:11}  {told}", flush=True
    )
    if row["escapes"]:
        print(summary["logs"], file=sys.stderr)
    return row


if __name__ == "__main__":
    sys.exit(main())
