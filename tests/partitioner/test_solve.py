"""The whole solver: near brute force on TRUE, within limits, never worse than the CPU alone, the same each time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.partitioner.problems import (
    SETS,
    all_assignments,
    all_surrogates,
    chain,
    densenet,
    hrnet,
    real_problems,
    with_budgets,
)
from tests.partitioner.test_surrogate import problems
from tests.support import require, shared_path

from delegraph.core.abi.values import Limits, Link
from delegraph.core.errors import InternalError, InvalidArgument
from delegraph.partitioner.solver.problem import (
    COST_LIMIT,
    Costs,
    NoEnergyModel,
    Problem,
    ProblemDevice,
    ProblemOp,
    ProblemTensor,
    Unplaceable,
    copy_table,
)
from delegraph.partitioner.solver.solve import Solution, solve
from delegraph.partitioner.solver.true_cost import Judge, Position, Run, SegmentEstimate, broken_rule, concurrent_time

ROOT = Path(__file__).parents[2]
FREE = ((0, 0), (0, 0))


def least_true(problem: Problem, estimate: SegmentEstimate | None = None) -> int:
    """The least TRUE of all assignments that keep the limits: those of small SURROGATE_0, which is below, first.
    estimate: never below the sums."""
    judge = Judge(problem, estimate)
    floors = all_surrogates(problem, (0,) * len(problem.devices))
    assignments = all_assignments(problem)
    best = COST_LIMIT
    for i in np.argsort(floors, kind="stable"):
        if floors[i] + min(problem.launches) >= best:
            break
        cost = judge.cost(assignments[i].tolist())
        if cost.total < best and judge.broken_limit(assignments[i].tolist(), cost.runs) is None:
            best = cost.total
    return best


def expect_sound(problem: Problem, solution: Solution) -> None:
    """What holds for every solution."""
    judge = Judge(problem)
    cost = judge.cost(solution.assignment)
    assert cost.total == solution.true_ns == cost.ops + cost.copies + cost.launches + cost.streaming
    assert cost.runs == solution.runs
    assert broken_rule(problem, solution.runs) == ""
    assert judge.broken_limit(solution.assignment, solution.runs) is None
    assert solution.bound_ns is not None and solution.bound_ns <= solution.true_ns
    assert solution.surrogate_bound_ns <= solution.surrogate_ns
    assert solution.concurrent_ns <= solution.true_ns
    if solution.cpu_alone_ns is not None:
        assert solution.true_ns <= solution.cpu_alone_ns


def excesses(several: Sequence[Problem]) -> list[float]:
    """TRUE of the solutions over that of brute force, minus one."""
    found = []
    for problem in several:
        solution = solve(problem)
        expect_sound(problem, solution)
        best = least_true(problem)
        assert solution.bound_ns is not None and solution.bound_ns <= best <= solution.true_ns
        found.append(solution.true_ns / best - 1 if best else 0.0)
    return found


def test_true_is_near_brute_force() -> None:
    found = excesses(problems(20, 150))
    assert np.median(found) == 0.0
    assert np.mean(found) < 0.01


def test_true_is_near_brute_force_within_limits() -> None:
    found = excesses(problems(21, 100, 8, has_limits=True))
    assert np.median(found) == 0.0
    assert np.mean(found) < 0.03


@pytest.mark.slow
def test_true_is_near_brute_force_on_thousands() -> None:
    found = excesses(problems(2, 2000))
    assert np.median(found) == 0.0
    assert np.mean(found) < 0.01


@pytest.mark.parametrize("devices", SETS)
@pytest.mark.parametrize("make", [chain, hrnet, densenet])
def test_networks(make: object, devices: str) -> None:
    assert callable(make)
    problem = make(120, SETS[devices])
    expect_sound(problem, solve(problem))


@pytest.mark.parametrize("devices", SETS)
def test_real_graphs(devices: str) -> None:
    require("shared")
    paths = sorted((shared_path() / "models" / "real").glob("*.tflite"))
    for path in paths:
        for _, problem in real_problems(path, SETS[devices]):
            solution = solve(problem)
            expect_sound(problem, solution)
            assert solution.is_exact


_CHILD = """
from tests.partitioner.problems import SETS, densenet, hrnet
from tests.partitioner.test_surrogate import problems
from delegraph.partitioner.solver.solve import solve
several = problems(30, 30, has_limits=True) + [f(150, SETS["npu+gpu+dsp+cpu"]) for f in (densenet, hrnet)]
print([solve(problem) for problem in several])
"""


def test_same_input_same_bytes_in_every_process() -> None:
    def answer(seed: str) -> bytes:
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
        return subprocess.run(
            [sys.executable, "-c", _CHILD], capture_output=True, check=True, cwd=ROOT, env=environment
        ).stdout

    first = answer("1")
    assert first and first == answer("2")


def two_devices(*ops: tuple[int | None, int | None], limits: Limits = Limits(), launch: int = 10) -> Problem:  # noqa: B008
    """A chain of ops on a CPU that launches for 1, and another device of the same memory."""
    devices = (ProblemDevice("cpu", 1), ProblemDevice("acc", launch, limits=limits, stream_bytes_per_s=10**9))
    last = len(ops) - 1
    tensors = [ProblemTensor(None, (0,), False, FREE)]
    tensors += [ProblemTensor(i, () if i == last else (i + 1,), i == last, FREE) for i in range(len(ops))]
    return Problem(devices, 0, tuple(ProblemOp(costs) for costs in ops), tuple(tensors))


FAST, SLOW = (100, 20), (5, 90)


def test_launches_are_counted() -> None:
    assert solve(two_devices(FAST, SLOW, FAST)).assignment == (1, 0, 1)
    assert solve(two_devices(FAST, FAST, SLOW, FAST, launch=90)).assignment == (1, 1, 0, 0)
    assert solve(two_devices(FAST, SLOW, FAST, launch=500)).assignment == (0, 0, 0)


def test_max_segments() -> None:
    problem = two_devices(FAST, SLOW, FAST, FAST, limits=Limits(max_segments=1))
    assert solve(problem).assignment in [(0, 0, 1, 1), (1, 1, 1, 1)]
    assert solve(problem).true_ns == least_true(problem)


def test_prefix_only() -> None:
    problem = two_devices(FAST, SLOW, FAST, FAST, limits=Limits(prefix_only=True))
    assert solve(problem).true_ns == least_true(problem) == 10 + 20 + 90 + 20 + 20
    refused = two_devices(FAST, (5, None), FAST, FAST, limits=Limits(prefix_only=True))
    assert refused.domains == ((0, 1), (0,), (0,), (0,))
    assert solve(refused).assignment == (1, 0, 0, 0)


def test_state_order_counts_for_a_prefix() -> None:
    problem = two_devices(FAST, (5, None), FAST, limits=Limits(prefix_only=True))
    apart = replace(
        problem,
        tensors=(ProblemTensor(None, (0, 2), False, FREE), *(ProblemTensor(i, (), True, FREE) for i in range(3))),
    )
    assert solve(apart).assignment == (1, 0, 1)
    assert solve(replace(apart, order=((1, 2),))).assignment == (1, 0, 0)


def test_min_ops() -> None:
    problem = two_devices(FAST, SLOW, FAST, FAST, limits=Limits(min_ops=2))
    assert solve(problem).assignment == (0, 0, 1, 1)


def test_weights_beyond_the_budget_are_streamed() -> None:
    problem = two_devices(FAST, FAST, limits=Limits(weight_budget_bytes=100))
    heavy = replace(problem, ops=tuple(replace(op, weight_bytes=100) for op in problem.ops))
    cost = Judge(heavy).cost((1, 1))
    assert cost.streaming == 100 and cost.total == 10 + 40 + 100
    assert solve(heavy).assignment in [(0, 1), (1, 0)]


def test_limits_that_can_not_be_kept() -> None:
    with pytest.raises(Unplaceable, match="op 0: expected a device beside acc, whose limits it breaks"):
        solve(two_devices((None, 20), (5, None), (None, 20), limits=Limits(max_segments=1)))
    with pytest.raises(Unplaceable, match="op 1: expected a device that may run it, found none"):
        two_devices(FAST, (None, None))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ops": (ProblemOp((1,)), ProblemOp((1, 2)))}, "op 0 has 1 costs for 2 devices"),
        ({"ops": (ProblemOp((1, -1)), ProblemOp((1, 2)))}, "op 0 has a negative cost"),
        ({"order": ((1, 0),)}, "an order edge leads back"),
        ({"tensors": (ProblemTensor(1, (0,), False, FREE),)}, "tensor 0 is out of order"),
        ({"tensors": (ProblemTensor(0, (1,), False, ((0, 0),)),)}, "tensor 0 lacks copy costs"),
        ({"ops": (ProblemOp((COST_LIMIT, 1)), ProblemOp((1, 2)))}, "the costs are too large"),
        ({"host": 1}, "the host has limits"),
        ({"under": (2,)}, "no device 2 is there to stand under the host"),
        ({"under": (1,)}, "device 1, which stands under the host, has limits"),
    ],
)
def test_malformed_problems(change: dict[str, object], message: str) -> None:
    problem = two_devices(FAST, FAST, limits=Limits(min_ops=2))
    with pytest.raises(InternalError, match=message):
        replace(problem, **change)  # type: ignore[arg-type]


def test_ties_go_to_fewer_segments_then_to_the_first_device() -> None:
    problem = two_devices((10, 10), (10, 10), launch=1)
    assert solve(problem).assignment == (0, 0)


def test_energy() -> None:
    problem = two_devices(FAST, FAST)
    frugal = Costs(ops=((1, 50), (1, 50)), copies=tuple(FREE for _ in problem.tensors), launches=(0, 0))
    assert solve(problem).assignment == (1, 1)
    assert solve(problem, "energy", frugal).assignment == (0, 0)
    with pytest.raises(NoEnergyModel, match="found none for acc"):
        solve(problem, "energy", replace(frugal, ops=((1, None), (1, 50))))
    with pytest.raises(NoEnergyModel, match="found none for cpu, acc"):
        solve(problem, "energy")
    with pytest.raises(InvalidArgument, match="expected 'latency' or 'energy', found 'speed'"):
        solve(problem, "speed")


def test_a_device_that_runs_nothing_needs_no_energy_model() -> None:
    problem = two_devices((10, None), (10, None))
    costs = Costs(ops=((1, None), (1, None)), copies=tuple(FREE for _ in problem.tensors), launches=(0, None))
    assert solve(problem, "energy", costs).true_ns == 2


def test_estimates_of_segments_count_instead_of_the_sum() -> None:
    def estimate(device: int, ops: tuple[int, ...]) -> int | None:
        return 5 if device == 1 and len(ops) == 2 else None

    problem = two_devices((20, 60), (20, 60), launch=10)
    assert solve(problem).assignment == (0, 0)
    solution = solve(problem, estimate=estimate)
    assert solution.assignment == (0, 0) or solution.true_ns == 15
    assert solution.bound_ns is None and solution.gap == 0.0


def dearer(problem: Problem) -> SegmentEstimate:
    """Estimates of one and a half times the sums for two ops and more, none for a single one."""

    def estimate(device: int, ops: tuple[int, ...]) -> int | None:
        total = sum(int(problem.op_costs[op, device]) for op in ops)
        return None if len(ops) == 1 else total * 3 // 2

    return estimate


def test_estimates_above_the_sums_leave_the_bound_valid() -> None:
    excess = []
    for problem in problems(23, 80, 8, has_limits=True):
        estimate = dearer(problem)
        solution = solve(problem, estimate=estimate, estimates_exceed_sums=True)
        best = least_true(problem, estimate)
        assert solution.bound_ns is not None and solution.bound_ns <= best <= solution.true_ns
        assert solve(problem, estimate=estimate).bound_ns is None
        excess.append(solution.true_ns / best - 1 if best else 0.0)
    assert np.median(excess) == 0.0
    assert np.mean(excess) < 0.03


def test_a_move_is_judged_without_judging_all() -> None:
    rng = np.random.default_rng(25)
    for problem in problems(25, 150, 12, 4, has_limits=True):
        if rng.random() < 0.5:
            problem = with_budgets(rng, problem)
        judge = Judge(problem, dearer(problem) if rng.random() < 0.3 else None)
        position = Position(judge, [int(rng.choice(domain)) for domain in problem.domains])
        for _ in range(10):
            ops = sorted(rng.choice(len(problem.ops), min(len(problem.ops), 1 + int(rng.integers(3))), replace=False))
            d = int(rng.integers(len(problem.devices)))
            moved = judge.after_move(position, [int(op) for op in ops], d)
            after = [d if op in ops else e for op, e in enumerate(position.assignment)]
            cost = judge.cost(after)
            if not all(d in problem.domains[op] for op in ops):
                continue
            assert (moved.total, moved.n_segments) == (cost.total, cost.n_segments)
            if judge.broken_limit(position.assignment, position.track.runs) is None:
                keeps = judge.keeps_limits(position, [int(op) for op in ops], d, moved)
                assert keeps == (judge.broken_limit(after, cost.runs) is None)
            position.go([int(op) for op in ops], d, moved)
            assert position.track.runs == list(cost.runs)
            assert position.assignment == after


def by_definition(problem: Problem, assignment: Sequence[int], runs: Sequence[Run]) -> list[tuple[int, ...]]:
    """(copies in, outputs, streaming) of each run, tensor by tensor."""
    at = {op: i for i, (_, ops) in enumerate(runs) for op in ops}
    found = [[0, 0, 0] for _ in runs]
    for tensor in problem.tensors:
        home = problem.host if tensor.producer is None else assignment[tensor.producer]
        for d in range(len(problem.devices)):
            readers = [op for op in tensor.consumers if assignment[op] == d]
            if d != home and readers:
                found[min(at[op] for op in readers)][0] += int(tensor.copy[home][d])
            elif d != home and d == problem.host and tensor.is_output:
                assert tensor.producer is not None
                found[at[tensor.producer]][1] += int(tensor.copy[home][d])
    for d, device in enumerate(problem.devices):
        held = sum(op.weight_bytes for op, a in zip(problem.ops, assignment, strict=True) if a == d)
        budget = device.limits.weight_budget_bytes
        if budget is not None and held > budget:
            first = next(i for i, run in enumerate(runs) if run[0] == d)
            found[first][2] += held - budget  # at a byte a nanosecond
    return [tuple(row) for row in found]


def test_segments_costs_add_up_to_true() -> None:
    rng = np.random.default_rng(24)
    for problem in problems(24, 60, 9):
        problem = with_budgets(rng, problem)
        for judge in (Judge(problem), Judge(problem, dearer(problem))):
            assignment = [int(rng.choice(domain)) for domain in problem.domains]
            cost, rows = judge.cost(assignment), judge.run_costs(assignment)
            assert sum(row.total_ns for row in rows) == cost.total
            assert sum(row.launch_ns for row in rows) == cost.launches
            assert sum(row.ops_ns for row in rows) == cost.ops
            assert tuple((row.device, row.ops) for row in rows) == cost.runs
            expected = by_definition(problem, assignment, cost.runs)
            assert [(row.copies_ns, row.outputs_ns, row.streaming_ns) for row in rows] == expected


def test_a_device_under_the_host_stands_in_for_it() -> None:
    devices = (ProblemDevice("cpu", 1), ProblemDevice("acc", 10), ProblemDevice("reference", 2))
    ops = (ProblemOp((5, 1, 90)), ProblemOp((None, 7, 80)), ProblemOp((5, 9, 90)))
    tensors = (ProblemTensor(None, (0,), False, ((0,) * 3,) * 3),)
    problem = Problem(devices, 0, ops, tensors)
    assert problem.cpu_alone is None
    below = replace(problem, under=(2,))
    assert below.cpu_alone == (0, 2, 0)
    assert solve(below).cpu_alone_ns == 5 + 80 + 5 + 1 + 2
    assert solve(below).assignment == solve(problem).assignment


def test_core_runs_its_steps_one_by_one_for_nothing() -> None:
    devices = (ProblemDevice("cpu", 100), ProblemDevice(""))
    ops = (ProblemOp((None, 1)), ProblemOp((None, 1)), ProblemOp((7, None)))
    tensors = (ProblemTensor(None, (0, 1), False, FREE), ProblemTensor(0, (2,), False, FREE))
    problem = Problem(devices, 0, ops, (*tensors, ProblemTensor(2, (), True, FREE)))
    solution = solve(problem)
    assert solution.runs == ((1, (0,)), (1, (1,)), (0, (2,)))
    assert solution.true_ns == solution.cpu_alone_ns == 109


def test_different_resources_work_side_by_side() -> None:
    devices = (ProblemDevice("cpu"), ProblemDevice("acc", is_beside=True))
    ops = (ProblemOp((50, None)), ProblemOp((None, 60)), ProblemOp((10, None)))
    tensors = (
        ProblemTensor(None, (0, 1), False, FREE),
        ProblemTensor(0, (2,), False, FREE),
        ProblemTensor(1, (2,), False, FREE),
        ProblemTensor(2, (), True, FREE),
    )
    problem = Problem(devices, 0, ops, tensors)
    runs: list[Run] = [(0, (0,)), (1, (1,)), (0, (2,))]
    assert Judge(problem).cost((0, 1, 0)).total == 120
    assert concurrent_time(problem, runs) == 70
    shared = replace(problem, devices=tuple(replace(d, resource="bus") for d in devices))
    assert concurrent_time(shared, runs) == 120
    calling = replace(problem, devices=(devices[0], ProblemDevice("acc")))  # both on the caller's thread
    assert concurrent_time(calling, runs) == 120


def test_copies_go_through_the_host() -> None:
    links = (Link(), Link(10, 10**9), Link(7, 10**9), Link(9, 10**9))
    table = copy_table(100, ("host", "a", "b", "b"), links, links, 0)
    assert table[0] == (0, 110, 107, 109)
    assert table[1] == (110, 0, 217, 219)
    assert table[2][3] == table[3][2] == 0


def test_nothing_to_place() -> None:
    problem = Problem((ProblemDevice("cpu", 5),), 0, (), (ProblemTensor(None, (), True, ((0,),)),))
    assert solve(problem).true_ns == 0


def test_more_devices_than_subsets_are_tried() -> None:
    for problem in problems(40, 10, 6, 7):
        best = least_true(problem) if len(all_assignments(problem)) < 20_000 else 0
        solution = solve(problem)
        expect_sound(problem, solution)
        assert best <= solution.true_ns


def test_what_lies_behind_a_conversion_of_the_input_is_still_a_prefix() -> None:
    """As on an Edge TPU: the CPU quantizes the input, the device takes the rest."""
    limits = Limits(max_segments=1, prefix_only=True)
    copy = ((0, 1), (1, 0))

    def assigned(*, is_start: bool) -> tuple[int, ...]:
        ops = (ProblemOp((10, None), is_start=is_start), ProblemOp((50, 1)), ProblemOp((50, 1)))
        tensors = tuple(
            ProblemTensor(p, c, is_output, copy)
            for p, c, is_output in ((None, (0,), False), (0, (1,), False), (1, (2,), False), (2, (), True))
        )
        devices = (ProblemDevice("cpu"), ProblemDevice("tpu", 5, "tpu memory", limits=limits))
        return solve(Problem(devices, 0, ops, tensors)).assignment

    assert assigned(is_start=True) == (0, 1, 1)
    assert assigned(is_start=False) == (0, 0, 0)
