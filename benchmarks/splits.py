"""Splits of real models: ours against the CPU alone and the greedy ways of TFLite's delegates.

    python -m benchmarks.splits [MODEL...] [--machines LIST] [--quick] [--measured] [--rounds N] [--json FILE]

For every graph and machine of devices.yaml (its emulated devices and the CPU, numerics "fast"): segments and predicted
time of the CPU alone, of the two greedy ways and of ours, and the bound. All are judged by the same TRUE, from the same
costs. Then an ablation of the solver, how long it took, and how long ``dg.explain`` took; --quick leaves out the
ablation and ``dg.explain``. Exit status 1 where ours is predicted slower than the CPU alone.

* by order: each device in the user's order claims all that it takes, as TFLite's delegates do one after another. Of a
  device with limits the first segment is kept if it takes only a prefix (Edge TPU), else the largest ones.
* by size: of all segments that some device could have, the one with most ops is claimed, again and again; at most
  ``max_segments`` a device, or 3 as NNAPI's max_number_delegated_partitions has it.

--measured: runs instead, on this machine. ``dg.compile`` with devices ["cpu"] and ["opencl:0", "cpu"] in turns on the
same random inputs, then ["cpu"] and ["opencl:0"], which has all that the device takes on it; medians of the paired
ratios, of the first with a 95 % bootstrap interval, and what was predicted.
Exit status 1 where the split is more than 5 % slower than the CPU alone, beyond noise. Set DELEGRAPH_CACHE_DIR to keep
what was calibrated, or to start afresh; OPENBLAS_NUM_THREADS=1 steadies the reference device on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tests.support import shared_path

import delegraph as dg
from delegraph.core.devices.locate import load
from delegraph.core.graph.build import build
from delegraph.core.graph.graph import Array
from delegraph.core.model.reader import read
from delegraph.core.ops.prepare import prepare
from delegraph.core.ops.support import check_ops
from delegraph.costing import Costing
from delegraph.explanation import _stages
from delegraph.partitioner.solver.problem import Problem
from delegraph.partitioner.solver.repair import repaired
from delegraph.partitioner.solver.solve import WEIGHTS, solve
from delegraph.partitioner.solver.true_cost import Judge, Run, SegmentEstimate
from delegraph.placer import Placer
from delegraph.request import HOST, Wishes, resolved
from delegraph.testing.oracle import TensorDetails, recipe_inputs

MOST = 3
"""Segments a device in the greedy way by size, if it has no limit: NNAPI's max_number_delegated_partitions."""
SLOWER = 1.05
"""How much slower than the CPU alone a split may be measured."""


@dataclass(frozen=True, eq=False)
class Case:
    """One graph on one machine. exceeds: no segment is estimated below the sum of its ops."""

    name: str
    machine: str
    problem: Problem
    estimate: SegmentEstimate | None
    exceeds: bool

    @property
    def accelerators(self) -> list[int]:
        """The devices beside the CPU, in the user's order."""
        problem = self.problem
        beside = (problem.host, *problem.under, problem.core)
        return [d for d in range(len(problem.devices)) if d not in beside]

    def solved(self, **arguments: Any) -> int:
        """TRUE of what the solver finds."""
        arguments["estimates_exceed_sums"] = self.exceeds
        return solve(self.problem, estimate=self.estimate, **arguments).true_ns


@dataclass(frozen=True)
class Way:
    """What one way to split makes of a graph. n_ops: those that are not the CPU's."""

    ns: int
    n_segments: int
    n_ops: int


@dataclass(frozen=True)
class Row:
    """One graph on one machine. bound_ns: None where it is not known. takes: whether an accelerator takes any op."""

    model: str
    machine: str
    n_ops: int
    takes: bool
    cpu: Way
    by_order: Way
    by_size: Way
    ours: Way
    bound_ns: int | None
    solve_s: float


# --- greedy


def by_order(case: Case, judge: Judge) -> list[int]:
    """Each device in the user's order claims all that it takes."""
    found = _alone(case.problem)
    free = set(range(len(found)))
    for d in case.accelerators:
        limits = case.problem.devices[d].limits
        parts = _parts(judge, found, d, free)
        if not limits.prefix_only:
            parts.sort(key=lambda part: -len(part))
        for part in parts[: limits.max_segments]:
            free.difference_update(part)
            found = [d if op in part else old for op, old in enumerate(found)]
    return _kept(judge, found)


def by_size(case: Case, judge: Judge) -> list[int]:
    """The segment with most ops is claimed, again and again."""
    found = _alone(case.problem)
    free = set(range(len(found)))
    left = {d: case.problem.devices[d].limits.max_segments or MOST for d in case.accelerators}
    while True:
        options = [(d, part) for d in left if left[d] for part in _parts(judge, found, d, free)]
        if not options:
            return _kept(judge, found)
        d, part = max(options, key=lambda option: len(option[1]))
        left[d] -= 1
        free.difference_update(part)
        found = [d if op in part else old for op, old in enumerate(found)]


def _alone(problem: Problem) -> list[int]:
    assert problem.cpu_alone is not None
    return list(problem.cpu_alone)


def _parts(judge: Judge, found: Sequence[int], device: int, free: Collection[int]) -> list[tuple[int, ...]]:
    """The largest segments that a device could have of the free ops, in the order in which they would run."""
    problem = judge.problem
    limits = problem.devices[device].limits
    wanted: set[int] = set()
    for op in sorted(free):
        behind = limits.prefix_only and not wanted.issuperset(problem.before[op])
        if device in problem.domains[op] and not behind:
            wanted.add(op)
    runs = judge.runs([device if op in wanted else d for op, d in enumerate(found)])
    return [ops for d, ops in runs if d == device and wanted.issuperset(ops) and len(ops) >= limits.min_ops]


def _kept(judge: Judge, found: Sequence[int]) -> list[int]:
    """Within the devices' limits: what one claims may split what another one has."""
    return list(repaired(judge, found))


# --- predicted


def models(paths: Sequence[Path]) -> list[Path]:
    return list(paths) or sorted((shared_path() / "models" / "real").glob("*.tflite"))


def cases(path: Path, machine: str) -> Iterator[Case]:
    """The graphs of a model; none of a model with an op that nothing here runs."""
    try:
        graphs = prepare(build(read(path)))
        check_ops(graphs)
        request = resolved(Wishes(machine=machine, numerics="fast"), graphs)
        stages, *_ = _stages(graphs, Placer(request, weighs_all=True))
    except (dg.UnsupportedOp, dg.InvalidModel):
        return
    costing = Costing(request.slots, request.fallbacks, request.machine)
    for stage in stages:
        if stage.assignment.problem is None or stage.table is None:
            continue
        problem, work = stage.assignment.problem, stage.work
        estimates, exceeds = costing.estimates(work, stage.table)
        graph = work.graph.index
        name = path.stem if graph == 0 else f"{path.stem}#{graph}"
        known: dict[Run, int | None] = {}

        def estimate(
            device: int, ops: tuple[int, ...], known: dict[Run, int | None] = known, work: Any = work,
            problem: Problem = problem, estimates: Any = estimates,
        ) -> int | None:  # fmt: skip
            if (device, ops) not in known:
                name = problem.devices[device].id
                known[device, ops] = estimates(name, [work.nodes[op] for op in ops]) if name else None
            return known[device, ops]

        yield Case(name, machine, problem, None if estimates is None else estimate, exceeds)


def compared(case: Case) -> Row:
    problem = replace(case.problem)  # without what is kept of it
    start = time.perf_counter()
    solution = solve(problem, estimate=case.estimate, estimates_exceed_sums=case.exceeds)
    solve_s = time.perf_counter() - start
    judge = Judge(problem, case.estimate)

    def way(assignment: Sequence[int]) -> Way:
        cost = judge.cost(assignment)
        runs = [run for run in cost.runs if run[0] != problem.core]
        return Way(cost.total, len(runs), sum(d in case.accelerators for d in assignment))

    takes = any(d in domain for domain in problem.domains for d in case.accelerators)
    return Row(
        case.name, case.machine, len(problem.ops), takes, way(_alone(problem)), way(by_order(case, judge)),
        way(by_size(case, judge)), way(solution.assignment), solution.bound_ns, solve_s,
    )  # fmt: skip


def print_head() -> None:
    titles = "".join(f"{title:>10} {'segm.':>6}" for title in ("cpu us", "by order", "by size", "ours"))
    print(f"{'graph':36} {'machine':16} {'ops':>4} {titles} {'bound us':>10} {'moved':>5} {'solve':>7}")


def print_row(r: Row) -> None:
    ways = "".join(f"{w.ns / 1e3:10.0f} {w.n_segments:6}" for w in (r.cpu, r.by_order, r.by_size, r.ours))
    bound = "-" if r.bound_ns is None else f"{r.bound_ns / 1e3:.0f}"
    print(
        f"{r.model[:36]:36} {r.machine:16} {r.n_ops:4} {ways} {bound:>10} {r.ours.n_ops:5} {r.solve_s * 1e3:5.0f}ms",
        flush=True,
    )


def ratio(one: float, other: float) -> float:
    return one / other if other else 1.0


def print_summary(rows: Sequence[Row]) -> int:
    """The figures over all graphs that an accelerator takes something of, and that take the CPU more than a
    microsecond. Returns how many break a promise."""
    print(f"\n{'machine':16} {'graphs':>6} {'moved':>5}  ours over: cpu alone      by order       by size")
    for machine in [*dict.fromkeys(r.machine for r in rows), "all"]:
        own = [r for r in rows if r.takes and r.cpu.ns > 1000 and machine in (r.machine, "all")]
        if not own:
            continue
        cells = []
        for other in ("cpu", "by_order", "by_size"):
            gains = [ratio(getattr(r, other).ns, r.ours.ns) for r in own]
            cells.append(f"{statistics.median(gains):5.2f}x max {max(gains):6.1f}x")
        print(f"{machine:16} {len(own):6} {sum(r.ours.n_ops > 0 for r in own):5}  " + " ".join(cells))
    for name in ("by_order", "by_size"):
        slower = sum(getattr(r, name).ns > r.cpu.ns for r in rows)
        better = sum(getattr(r, name).ns < r.ours.ns for r in rows)
        print(f"{name}: predicted slower than the cpu alone {slower} times of {len(rows)}, better than ours {better}")
    gaps = [1 - ratio(r.bound_ns, r.ours.ns) for r in rows if r.bound_ns is not None and r.takes]
    if gaps:
        print(f"gap to the bound: mean {statistics.fmean(gaps):.2%}, worst {max(gaps):.2%}")
    slow = sum(r.solve_s > 0.3 for r in rows)
    print(f"solve: median {statistics.median(r.solve_s for r in rows) * 1e3:.0f} ms, above 300 ms {slow} times")
    for r in sorted(rows, key=lambda r: -r.solve_s)[:8]:
        print(f"  {r.model[:40]:40} {r.machine:16} {r.n_ops:4} ops {r.solve_s * 1e3:6.0f} ms")
    violations = [r for r in rows if r.ours.ns > r.cpu.ns or (r.bound_ns or 0) > r.ours.ns]
    print(f"predicted slower than the cpu alone, or below the bound: {len(violations)} of {len(rows)}")
    for r in violations:
        print(f"  {r.model} on {r.machine}: cpu {r.cpu.ns}, ours {r.ours.ns}, bound {r.bound_ns} ns")
    return len(violations)


# --- ablation


def variants() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for improve in (True, False):
        end = "" if improve else ", no improvement"
        for weight in WEIGHTS:
            found[f"lambda {weight}{end}"] = {"weights": (Fraction(weight),), "improve": improve}
        found[f"all lambdas{end}"] = {"improve": improve}
    return found


def print_ablation(found: Sequence[dict[str, int]]) -> dict[str, Any]:
    """Of each variant, TRUE over the least that any of them found."""
    if not found:
        return {}
    print(f"\nablation on {len(found)} graphs: predicted time over the least of all variants")
    figures: dict[str, Any] = {}
    for name in found[0]:
        ratios = [ratio(row[name], min(row.values())) for row in found]
        mean, worst, best = statistics.geometric_mean(ratios), max(ratios), sum(r == 1 for r in ratios)
        figures[name] = {"mean": mean, "worst": worst, "best": best}
        print(f"  {name:28} mean {mean:.4f}, worst {worst:.3f}, best {best} times")
    return figures


# --- measured


@dataclass(frozen=True)
class Measured:
    """One model in three ways: on the CPU alone, as split, all that the accelerator takes on it. ratio: split over CPU
    alone, the median of pairs; all_ratio: the same of all. moved: ops on the accelerator when split. predicted_ms: as
    ``dg.explain`` says, of the main graph."""

    model: str
    rounds: int
    ms: tuple[float, ...]
    predicted_ms: tuple[float | None, ...]
    ratio: float
    low: float
    high: float
    all_ratio: float
    moved: int


def measured(path: Path, device: str, rounds: int, budget_s: float) -> Measured | str:
    """The figures, or why there are none."""
    predicted: list[float | None] = []
    try:
        calls = []
        for devices in (["cpu"], [device, "cpu"], [device]):
            calls.append(dg.compile(path, devices=devices, numerics="fast"))
            found = dg.explain(path, devices=devices, numerics="fast").placement.predictions
            predicted.append(next((p.total_ns / 1e6 for p in found if p.graph == 0), None))
        inputs = random_inputs(calls[0])
        for call in calls:
            call(*inputs)
            call(*inputs)
        split = calls[1].placement
    except dg.DelegraphError as exc:
        return str(exc)
    times = in_turns(calls[:2], inputs, rounds, budget_s)
    more = in_turns(calls[::2], inputs, rounds // 4, budget_s / 2)  # apart: it leaves caches and threads in a stir
    ratios = times[:, 1] / times[:, 0]
    ms = (*(np.median(times, axis=0) * 1e3).tolist(), float(np.median(more[:, 1])) * 1e3)
    n = len(times)
    drawn = np.random.default_rng(0).choice(ratios, (2000, n))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5]).tolist()
    return Measured(
        path.stem, n, ms, tuple(predicted), float(np.median(ratios)), low, high,
        float(np.median(more[:, 1] / more[:, 0])),
        sum(len(s.ops) for s in split.segments if s.device == device),
    )  # fmt: skip


def in_turns(
    calls: Sequence[Callable[..., Any]], inputs: Sequence[Array], rounds: int, budget_s: float
) -> npt.NDArray[np.float64]:
    """[rounds, calls] seconds; fewer rounds, but at least 8, where they would take longer than the budget."""
    once = sum(_seconds(call, inputs) for call in calls)
    times = np.empty((max(8, min(rounds, int(budget_s / once))), len(calls)))
    for i in range(len(times)):
        for k in range(len(calls))[:: -1 if i % 2 else 1]:
            times[i, k] = _seconds(calls[k], inputs)
    return times


def random_inputs(compiled: dg.CompiledModel) -> list[Array]:
    details = [TensorDetails(t.index, t.name, t.dtype.numpy, t.shape, t.shape, (), (), 0) for t in compiled.inputs]
    return recipe_inputs(details)


def _seconds(call: Callable[..., Any], inputs: Sequence[Array]) -> float:
    start = time.perf_counter()
    call(*inputs)
    return time.perf_counter() - start


def run_measured(paths: Sequence[Path], device: str, rounds: int, budget_s: float) -> tuple[list[Measured], bool]:
    """The rows, printed, and whether all keep within SLOWER."""
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cpus; up to {rounds} rounds; times in ms")
    print(
        f"{'model':36} {'rounds':>6} {'moved':>5} {'cpu':>9} {'split':>9} {'ratio':>6} {'95 %':>12} {'all':>9} "
        f"{'ratio':>6}  predicted: {'cpu':>9} {'split':>9} {'all':>9}"
    )
    rows: list[Measured] = []
    refused = Counter[str]()
    for path in paths:
        row = measured(path, device, rounds, budget_s)
        if isinstance(row, str):
            refused[row] += 1
            continue
        rows.append(row)
        predictions = " ".join(f"{'-':>9}" if ms is None else f"{ms:9.3f}" for ms in row.predicted_ms)
        print(
            f"{row.model[:36]:36} {row.rounds:6} {row.moved:5} {row.ms[0]:9.3f} {row.ms[1]:9.3f} {row.ratio:6.2f} "
            f"{row.low:6.2f}..{row.high:4.2f} {row.ms[2]:9.3f} {row.all_ratio:6.2f}             {predictions}",
            flush=True,
        )
    moved = [r for r in rows if r.moved]
    print(f"\n{len(rows)} models run, {sum(refused.values())} are refused; {len(moved)} use {device} when split")
    for title, own in ((f"splits with {device}", moved), ("splits without", [r for r in rows if not r.moved])):
        if own:
            ratios = [r.ratio for r in own]
            print(f"{title}: ratio median {statistics.median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}")
    for k, name in enumerate(("cpu alone", "split", f"all on {device}")):
        shares = [predicted / r.ms[k] for r in rows if (predicted := r.predicted_ms[k]) is not None]
        if shares:
            errors = sorted(abs(share - 1) for share in shares)
            print(
                f"{name}: predicted / measured {statistics.median(shares):.2f} in the middle, error median "
                f"{statistics.median(errors):.0%}, 90 % below {errors[int(0.9 * (len(errors) - 1))]:.0%}"
            )
    missed = [r for r in rows if r.all_ratio * SLOWER < min(r.ratio, 1)]
    print(f"all on {device} was faster than the split: " + (_named(missed, "all_ratio") or "never"))
    slow = [r for r in rows if r.ratio > SLOWER]
    sure = [r for r in slow if r.low > SLOWER]
    print(
        f"more than {SLOWER - 1:.0%} slower than the cpu alone: {len(slow)} of {len(rows)}, beyond noise {len(sure)}: "
        + (_named(slow, "ratio") or "none")
    )
    return rows, not sure


def _named(rows: Sequence[Measured], what: str) -> str:
    return ", ".join(f"{r.model} {getattr(r, what):.2f}" for r in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="*")
    parser.add_argument("--machines", help="machines of devices.yaml, with commas between; all if not said")
    parser.add_argument("--quick", action="store_true", help="without the ablation and dg.explain")
    parser.add_argument("--measured", action="store_true", help="run on this machine instead of predicting")
    parser.add_argument("--device", default="opencl:0", help="the accelerator of --measured")
    parser.add_argument("--rounds", type=int, default=60, help="of --measured, at most")
    parser.add_argument("--seconds", type=float, default=4.0, help="of --measured, a model; at least 8 rounds")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    if options.measured:
        found, is_good = run_measured(models(options.models), options.device, options.rounds, options.seconds)
        figures["measured"] = [asdict(row) for row in found]
    else:
        names = options.machines.split(",") if options.machines else [m for m in load().machines if m != HOST]
        rows: list[Row] = []
        ablation: list[dict[str, int]] = []
        explained: list[tuple[float, str, str]] = []
        print_head()
        for path in models(options.models):
            for machine in names:
                own = list(cases(path, machine))
                for case in own:
                    rows.append(compared(case))
                    if rows[-1].takes:
                        print_row(rows[-1])
                if not options.quick and own:
                    split = [case for case, row in zip(own, rows[-len(own) :], strict=True) if row.takes]
                    ablation += [{name: case.solved(**how) for name, how in variants().items()} for case in split]
                    start = time.perf_counter()
                    dg.explain(path, machine=machine, numerics="fast")
                    explained.append((time.perf_counter() - start, path.stem, machine))
        is_good = not print_summary(rows)
        if explained:
            print(f"dg.explain: median {statistics.median(e[0] for e in explained):.2f} s; longest")
            for seconds, model, machine in sorted(explained)[:-6:-1]:
                print(f"  {model[:40]:40} {machine:16} {seconds:6.1f} s")
        figures = {"rows": [asdict(row) for row in rows], "ablation": print_ablation(ablation), "explain": explained}
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
