"""OpDefs against LiteRT by hand: ``python -m tools.conformance [--rounds N] [--seed S] [OP ...]``.

Prints a line per op with its outcomes and the largest error as a share of the op's bound, and the first cases that
differ. The conformance tests run the same cases with fewer rounds.
"""

from __future__ import annotations

import argparse
import collections

import numpy as np

from delegraph.core.ops import registry
from delegraph.testing import Oracle
from delegraph.testing.conformance import check


def main() -> int:
    """Exit code 1 if any case is not the same."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ops", nargs="*", help="names of ops; all that have cases if none is given")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=8, help="how many cases that are not the same to print per op")
    args = parser.parse_args()
    failed = False
    with Oracle() as oracle:
        for op in registry.all_ops():
            if op.cases is None or (args.ops and op.name not in args.ops):
                continue
            outcomes: collections.Counter[str] = collections.Counter()
            share, shown = 0.0, 0
            for seed in range(args.seed, args.seed + args.rounds):
                for verdict in check(op, op.cases(np.random.default_rng(seed)), oracle):
                    outcomes[verdict.outcome] += 1
                    share = max(share, verdict.share)
                    if verdict.outcome != "same" and shown < args.show:
                        print(f"  seed {seed} {verdict.case}: {verdict.outcome}: {verdict.detail}")
                        shown += 1
            failed |= set(outcomes) != {"same"}
            counts = ", ".join(f"{n} {outcome}" for outcome, n in sorted(outcomes.items()))
            print(f"{op.name:28} {counts}; {share:.3g} of the bound")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
