"""The op-by-op oracle over models: ``python -m benchmarks.op_oracle FOLDER_OR_MODEL ... [--testdata]``.

Each op of each model is cut out and run in LiteRT and here, on LiteRT's own inputs. Prints a line per op and form:
how many were compared, how many are the same, and the largest error as a share of the op's bound; then what differs,
what was skipped and why. ``--json FILE`` writes every verdict.
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
import time
from pathlib import Path

import delegraph as dg
from benchmarks.agreement import models_in
from delegraph.testing import Oracle, OracleError
from delegraph.testing.op_oracle import OpVerdict, judge_model


def main() -> int:
    """Exit code 1 if any op differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", help="models, or folders of models")
    parser.add_argument("--testdata", action="store_true", help="the folder's testdata/ in place of its models")
    parser.add_argument("--json", metavar="FILE", help="write every verdict here")
    args = parser.parse_args()
    start = time.perf_counter()
    verdicts: list[OpVerdict] = []
    not_run: list[str] = []
    with Oracle() as oracle:
        for path in models_in(args.paths, args.testdata):
            try:
                verdicts += judge_model(dg.load(path), oracle)
            except (OracleError, dg.DelegraphError) as exc:
                not_run.append(f"{path.name}: {' '.join(str(exc).split())}")
    _print(verdicts, not_run)
    print(f"{len(verdicts)} ops in {time.perf_counter() - start:.0f} s")
    if args.json:
        rows = [{**vars(v), "verdict": vars(v.verdict)} for v in verdicts]
        Path(args.json).write_text(json.dumps(rows, indent=1))
    return int(any(v.verdict.outcome == "different" for v in verdicts))


def _print(verdicts: list[OpVerdict], not_run: list[str]) -> None:
    groups: dict[tuple[str, str], list[OpVerdict]] = collections.defaultdict(list)
    for verdict in verdicts:
        if verdict.verdict.outcome in ("same", "different"):
            groups[verdict.verdict.op, verdict.form].append(verdict)
    print(f"{'op':26} {'compared':>8} {'same':>6} {'of bound':>9}  form")
    for (op, form), group in sorted(groups.items()):
        same = sum(v.verdict.outcome == "same" for v in group)
        share = max(v.verdict.share for v in group)
        print(f"{op:26} {len(group):8} {same:6} {share:9.2g}  {form}")
    for outcome in ("different", "we refused", "oracle refused", "skipped"):
        rows = [v for v in verdicts if v.verdict.outcome == outcome]
        reasons = collections.Counter(
            (v.verdict.op, " ".join(v.verdict.detail.split())[:160].replace(v.verdict.case, "")) for v in rows
        )
        print(f"\n{outcome}: {len(rows)}")
        for (op, reason), n in sorted(reasons.items()):
            print(f"  {n:5} x {op}: {reason}")
    if not_run:
        print(f"\nnot run by LiteRT or not readable: {len(not_run)}")
        for line in not_run:
            print(f"  {line[:220]}")


if __name__ == "__main__":
    sys.exit(main())
