"""OpDefs against LiteRT by hand: ``python -m tools.conformance [--rounds N] [--seed S] [--import FILE] [OP ...]``.

Prints a line per op with its outcomes and the largest error as a share of the op's bound, and the first cases that
differ. The conformance tests run the same cases with fewer rounds.
"""

from __future__ import annotations

import argparse
import collections

import numpy as np

from delegraph.cli.imports import run_module
from delegraph.core.devices.document import nearest
from delegraph.core.errors import InvalidArgument
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
    parser.add_argument(
        "--import",
        dest="modules",
        metavar="MODULE_OR_FILE",
        action="append",
        default=[],
        help="run this first: it may register ops",
    )
    args = parser.parse_args()
    try:
        for module in args.modules:
            run_module(module)
    except InvalidArgument as exc:
        parser.error(str(exc))
    ops = {op.name: op for op in registry.all_ops()}
    for name in args.ops:
        if name not in ops:
            near = nearest(name, ops)
            advice = near if near.startswith("did") else "list them: delegraph ops"
            parser.error(f"expected the name of an op, found {name!r}; {advice}")
        if ops[name].cases is None:
            parser.error(f"expected an op that has cases, found {name}, which has none")
    failed = False
    with Oracle() as oracle:
        for op in (ops[name] for name in args.ops) if args.ops else ops.values():
            if op.cases is None:
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
