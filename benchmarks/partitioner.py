"""How fast and how good the solver is: real graphs, made-up networks, and random graphs against brute force.

    python -m benchmarks.partitioner [--random N] [--scaled] [--json FILE]

Per real graph and set of devices, and per network of 300 and 1,000 ops: time, segments, TRUE of the CPU alone and of
ours, the gap to the bound, the proven gap of the surrogate, the widest table; then an ablation of λ and of the
improvement step. The costs are a simple roofline's, the same that the tests use. --scaled: networks with costs drawn at
random, where no device stands out and the linear program has to work.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from tests.partitioner.problems import SETS, Chip, chain, densenet, hrnet, random_problem, real_problems
from tests.partitioner.test_solve import least_true
from tests.support import shared_path

from delegraph.partitioner.solver.elimination import TooWide
from delegraph.partitioner.solver.ilp import Budget, minimise_wide
from delegraph.partitioner.solver.problem import Problem, ProblemOp
from delegraph.partitioner.solver.solve import WEIGHTS, solve
from delegraph.partitioner.solver.surrogate import Surrogate, entries_of, setting


@dataclass(frozen=True)
class Row:
    """One problem's figures. widest: entries of the largest table, None where it would be too large. surrogate_s,
    surrogate_gap: of SURROGATE_1 over all devices alone."""

    name: str
    devices: str
    n_ops: int
    widest: int | None
    solve_s: float
    surrogate_s: float
    surrogate_gap: float
    n_segments: int
    cpu_alone_us: float | None
    ours_us: float
    gap: float
    how: str


def measured(name: str, devices: str, problem: Problem) -> Row:
    """Solves the problem, and its surrogate of λ = 1 by itself."""
    start = time.perf_counter()
    solution = solve(problem)
    solve_s = time.perf_counter() - start
    start = time.perf_counter()
    gap, widest = 0.0, None
    try:
        surrogate = Surrogate(problem, has_path=False)
        surrogate.solve([setting(problem, 1)])
        widest = surrogate.order.widest
    except TooWide:
        wide = minimise_wide(problem, entries_of(problem, 1), [], Budget())
        gap = (wide.value - wide.bound) / max(1, wide.value)
    surrogate_s = time.perf_counter() - start
    alone = solution.cpu_alone_ns
    return Row(
        name, devices, len(problem.ops), widest, solve_s, surrogate_s, gap, len(solution.runs),
        None if alone is None else alone / 1e3, solution.true_ns / 1e3, solution.gap, solution.how,
    )  # fmt: skip


def scaled(problem: Problem, copies: float, seed: int = 1) -> Problem:
    """The network with op costs drawn at random and copies made cheaper."""
    rng = np.random.default_rng(seed)
    ops = [
        ProblemOp(tuple(None if cost is None else int(30_000 * rng.uniform(0.3, 1.0)) for cost in op.costs))
        for op in problem.ops
    ]
    tensors = [
        replace(t, copy=tuple(tuple(int(cost * copies) for cost in row) for row in t.copy)) for t in problem.tensors
    ]
    devices = [replace(device, launch=5_000) for device in problem.devices]
    return replace(problem, devices=tuple(devices), ops=tuple(ops), tensors=tuple(tensors))


def networks(is_scaled: bool) -> Iterator[tuple[str, str, Problem]]:
    makers: tuple[Callable[[int, Sequence[Chip]], Problem], ...] = (chain, hrnet, densenet)
    devices = "npu+gpu+dsp+cpu"
    for n_ops in (300, 1000):
        for make in makers:
            problem = make(n_ops, SETS[devices])
            yield f"{make.__name__} {n_ops}", devices, problem
            for copies in (0.05, 0.2) if is_scaled else ():
                yield f"{make.__name__} {n_ops} x{copies}", devices, scaled(problem, copies)


def real() -> Iterator[tuple[str, str, Problem]]:
    for path in sorted((shared_path() / "models" / "real").glob("*.tflite")):
        for devices, chips in SETS.items():
            for name, problem in real_problems(path, chips):
                yield name, devices, problem


def print_rows(rows: Sequence[Row]) -> None:
    head = f"{'graph':36} {'devices':16} {'ops':>5} {'widest':>8} {'solve':>8} {'surr.':>8} {'s.gap':>7}"
    print(f"{head} {'segm.':>6} {'cpu µs':>10} {'ours µs':>10} {'gap':>7}  how")
    for r in rows:
        alone = "-" if r.cpu_alone_us is None else f"{r.cpu_alone_us:.0f}"
        widest = "wide" if r.widest is None else str(r.widest)
        print(
            f"{r.name[:36]:36} {r.devices:16} {r.n_ops:5} {widest:>8} {r.solve_s * 1e3:6.0f}ms "
            f"{r.surrogate_s * 1e3:6.0f}ms {r.surrogate_gap:7.2%} {r.n_segments:6} {alone:>10} {r.ours_us:10.0f} "
            f"{r.gap:7.2%}  {r.how}"
        )


def print_random(n: int) -> dict[str, Any]:
    """TRUE of ours over that of brute force on n random graphs of up to 10 ops and 3 devices."""
    rng = np.random.default_rng(2)
    excess, seconds = [], 0.0
    for _ in range(n):
        problem = random_problem(rng, int(rng.integers(1, 11)), int(rng.integers(1, 4)))
        start = time.perf_counter()
        ours = solve(problem).true_ns
        seconds += time.perf_counter() - start
        best = least_true(problem)
        excess.append(ours / best - 1 if best else 0.0)
    found = {
        "graphs": n,
        "median": statistics.median(excess),
        "mean": statistics.fmean(excess),
        "worst": max(excess),
        "optimal": sum(e == 0 for e in excess) / n,
    }
    print(
        f"\n{n} random graphs against brute force: median {found['median']:.2%}, mean {found['mean']:.3%}, worst "
        f"{found['worst']:.2%}, optimal {found['optimal']:.2%}; {seconds / n * 1e3:.1f} ms each"
    )
    return found


def print_ablation(problems: Sequence[Problem]) -> dict[str, float]:
    """Geometric mean of TRUE over that of the whole solver, with parts left out."""
    variants: dict[str, dict[str, Any]] = {
        "λ = 0 alone": {"weights": (Fraction(0),)},
        "λ = 1 alone": {"weights": (Fraction(1),)},
        "no improvement": {"improve": False},
        "λ = 1, no improvement": {"weights": (Fraction(1),), "improve": False},
    }
    full = [solve(problem, weights=WEIGHTS).true_ns for problem in problems]
    print(f"\nablation on {len(problems)} graphs that are not the cpu's alone: TRUE over the whole solver's")
    found = {}
    for name, arguments in variants.items():
        ratios = [solve(p, **arguments).true_ns / best for p, best in zip(problems, full, strict=True)]
        found[name] = statistics.geometric_mean(ratios)
        print(f"  {name:24} mean {found[name]:.4f}, worst {max(ratios):.3f}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", type=int, default=2000, help="random graphs")
    parser.add_argument("--scaled", action="store_true", help="also networks with costs drawn at random")
    parser.add_argument("--json", help="write the figures here")
    args = parser.parse_args()
    problems = list(real())
    rows = [measured(*problem) for problem in problems]
    print_rows(sorted(rows, key=lambda r: -r.solve_s)[:25])
    if rows:
        slowest, gap = max(r.solve_s for r in rows), max(r.gap for r in rows)
        print(f"{len(rows)} real graphs x devices: slowest {slowest * 1e3:.0f} ms, largest gap {gap:.2%}\n")
    made = [measured(*problem) for problem in networks(args.scaled)]
    print_rows(made)
    figures = {"rows": [asdict(row) for row in rows + made], "random": print_random(args.random)}
    chosen = [p for (_, _, p), r in zip(problems, rows, strict=True) if r.how != "the cpu alone"]
    figures["ablation"] = print_ablation(chosen) if chosen else {}
    if args.json:
        Path(args.json).write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
