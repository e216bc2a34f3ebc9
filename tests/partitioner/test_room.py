"""Splits where a device has no room for all constants, takes few or large segments, or says itself what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from tests.partitioner.problems import random_problem, with_budgets
from tests.partitioner.test_solve import FREE, expect_sound, least_true

from delegraph.core.abi.values import Limits
from delegraph.partitioner.solver.exact import exact
from delegraph.partitioner.solver.problem import (
    COST_LIMIT,
    Problem,
    ProblemDevice,
    ProblemOp,
    ProblemTensor,
    SharedConstant,
    Unplaceable,
)
from delegraph.partitioner.solver.repair import fitted
from delegraph.partitioner.solver.solve import solve
from delegraph.partitioner.solver.true_cost import Judge, SegmentEstimate

MB = 1 << 20


def a_chain(costs: Sequence[tuple[int | None, int | None]], acc: ProblemDevice, copy_ns: int = 0) -> Problem:
    """A chain of ops of 1 MB each on a CPU and a device."""
    n = len(costs)
    copy = ((0, copy_ns), (copy_ns, 0)) if copy_ns else FREE
    tensors = [ProblemTensor(None, (0,), False, copy)]
    tensors += [ProblemTensor(i, (i + 1,) if i < n - 1 else (), i == n - 1, copy) for i in range(n)]
    ops = tuple(ProblemOp(cost, MB) for cost in costs)
    return Problem((ProblemDevice("cpu"), acc), 0, ops, tuple(tensors))


def cached(problem: Problem, room: int) -> SegmentEstimate:
    """As an emulated Edge TPU says it: fetching what its cache has no room for hides computing, or the other way."""

    def estimate(device: int, ops: tuple[int, ...]) -> int | None:
        if device == 0:
            return None
        held = sum(problem.ops[op].weight_bytes for op in ops)
        return max(sum(problem.ops[op].costs[1] or 0 for op in ops), max(0, held - room) * 3)

    return estimate


@pytest.mark.parametrize("n", [8, 14, 40])
@pytest.mark.parametrize("limits", [Limits(), Limits(max_segments=1), Limits(max_segments=1, prefix_only=True)])
def test_as_many_ops_stay_as_there_is_room_for(n: int, limits: Limits) -> None:
    """Each op gains a quarter of what streaming its constants takes: all of them or none are both far from the best."""
    limits = replace(limits, weight_budget_bytes=6 * MB)
    rate = 10**9 // 3
    problem = a_chain([(MB, MB // 8)] * n, ProblemDevice("acc", MB // 2, limits=limits, stream_bytes_per_s=rate))
    solution = solve(problem)
    assert solution.true_ns == (n - 6) * MB + 6 * (MB // 8) + MB // 2
    assert sum(solution.assignment) == 6
    assert solution.cpu_alone_ns == n * MB


@pytest.mark.parametrize("n", [8, 14, 40])
def test_a_cache_that_only_estimates_know_is_filled(n: int) -> None:
    limits = Limits(max_segments=1)
    acc = ProblemDevice("acc", MB // 2, "host", "", limits, False, 10**9 // 3, weight_cache_bytes=6 * MB)
    problem = a_chain([(MB, MB // 8)] * n, acc)
    solution = solve(problem, estimate=cached(problem, 6 * MB), estimates_exceed_sums=True)
    best = min((n - k) * MB + (MB // 2 if k else 0) + max(k * (MB // 8), max(0, k - 6) * MB * 3) for k in range(n + 1))
    assert solution.true_ns == best
    assert sum(solution.assignment) == 6
    assert Judge(problem).cost(solution.assignment).streaming == 0  # the cache is a hint, and no part of TRUE


def test_a_device_without_room_gives_up_what_gains_least() -> None:
    """Of ops that gain less than streaming takes, the five that gain most."""
    rng = np.random.default_rng(40)
    rate = 10**9
    for _ in range(20):
        gains = rng.integers(1, MB, 16).tolist()
        limits = Limits(weight_budget_bytes=5 * MB)
        problem = a_chain(
            [(MB, MB - gain) for gain in gains], ProblemDevice("acc", limits=limits, stream_bytes_per_s=rate)
        )
        best = sum(MB for _ in gains) - sum(sorted(gains)[-5:])
        assert solve(problem).true_ns == best


def test_splits_with_budgets_are_the_best_of_all() -> None:
    rng = np.random.default_rng(41)
    for _ in range(60):
        problem = with_budgets(rng, random_problem(rng, int(rng.integers(2, 8)), 3))
        solution = solve(problem)
        expect_sound(problem, solution)
        assert solution.true_ns == least_true(problem)


def test_what_is_left_has_room() -> None:
    rng = np.random.default_rng(42)
    for _ in range(60):
        problem = with_budgets(rng, random_problem(rng, 12, 3))
        judge = Judge(problem)
        assignment = [int(domain[-1]) for domain in problem.domains]
        for found in fitted(judge, assignment):
            assert all(d in domain for d, domain in zip(found, problem.domains, strict=True))
            held = sum(problem.held_bytes(found, d) - room for d, room in problem.rooms.items())
            assert held < sum(problem.held_bytes(assignment, d) - room for d, room in problem.rooms.items())


def test_a_constant_of_several_ops_is_held_once() -> None:
    limits = Limits(weight_budget_bytes=2 * MB)
    apart = a_chain([(MB, 1)] * 4, ProblemDevice("acc", 1, limits=limits, stream_bytes_per_s=1000))
    shared = replace(apart, shared=(SharedConstant((0, 1, 3), MB),))
    assert Judge(apart).cost((1, 1, 1, 1)).streaming == 2 * MB * 10**6
    assert Judge(shared).cost((1, 1, 1, 1)).streaming == 0
    assert shared.held_bytes((1, 1, 0, 1), 1) == MB
    assert solve(shared).assignment == (1, 1, 1, 1)
    judge = Judge(shared)
    for start in np.ndindex(2, 2, 2, 2):
        for ops in ((0,), (0, 3), (2, 3)):
            for device in (0, 1):
                after = [device if op in ops else d for op, d in enumerate(start)]
                change = judge.problem.held_bytes(after, 1) - judge.problem.held_bytes(start, 1)
                assert judge.held_change(start, ops, device, 1) == change


# --- limits


def test_splits_within_limits_are_the_best_of_all_small_ones() -> None:
    """Or refused where nothing keeps the limits: pins leave devices with limits alone in some domains."""
    rng = np.random.default_rng(43)
    n_refused = 0
    for _ in range(120):
        problem = random_problem(rng, int(rng.integers(2, 8)), 3, has_limits=True)
        ops = list(problem.ops)
        for op in rng.choice(len(ops), 2):
            d = int(rng.choice(problem.domains[op]))
            ops[op] = ProblemOp(tuple(c if e == d else None for e, c in enumerate(ops[op].costs)))
        try:
            problem = replace(problem, ops=tuple(ops))
            best = least_true(problem)
        except Unplaceable:  # a pin behind what a prefix may hold
            continue
        if best == COST_LIMIT:
            n_refused += 1
            with pytest.raises(Unplaceable):
                solve(problem)
        else:
            solution = solve(problem)
            assert solution.true_ns == best == solution.bound_ns
    assert n_refused


def test_few_segments_of_a_long_chain_are_the_best_ones() -> None:
    """Against dynamic programming over where the segments lie."""
    rng = np.random.default_rng(44)
    for _ in range(30):
        n, most, least_ops = int(rng.choice([20, 40])), int(rng.integers(1, 4)), int(rng.integers(1, 4))
        cpu = rng.integers(1_000, 40_000, n).tolist()
        acc = [None if rng.random() < 0.12 else max(1, int(c / rng.uniform(0.5, 10))) for c in cpu]
        launch, copy = int(rng.choice([1_000, 20_000, 100_000])), 1_000
        device = ProblemDevice("acc", launch, "acc", limits=Limits(max_segments=most, min_ops=least_ops))
        problem = a_chain(list(zip(cpu, acc, strict=True)), device, copy)
        assert solve(problem).true_ns <= 1.02 * _best_segments(cpu, acc, launch + 2 * copy, most, least_ops)


def _best_segments(cpu: list[int], acc: list[int | None], start: int, most: int, least_ops: int) -> int:
    n = len(cpu)
    best = [[COST_LIMIT] * (most + 1) for _ in range(n + 1)]
    best[0] = [0] * (most + 1)
    for i in range(n):
        for k in range(most + 1):
            best[i + 1][k] = min(best[i + 1][k], best[i][k] + cpu[i])
            total = best[i][k] + start
            for j in range(i, n if k < most else i):
                if (cost := acc[j]) is None:
                    break
                total += cost
                if j + 1 - i >= least_ops:
                    best[j + 1][k + 1] = min(best[j + 1][k + 1], total)
    return min(best[n])


def test_a_pinned_op_gets_the_company_that_its_device_asks_for() -> None:
    """The device takes segments of three ops at least, and the op in the middle may run nowhere else: too many
    assignments to try them all."""
    costs: list[tuple[int | None, int | None]] = [(10, 50)] * 20
    costs[9] = (None, 50)
    problem = a_chain(costs, ProblemDevice("acc", 5, limits=Limits(min_ops=3)))
    solution = solve(problem)
    assert solution.true_ns == 17 * 10 + 3 * 50 + 5
    two = [*costs[:15], (None, 50), *costs[16:]]
    problem = a_chain(two, ProblemDevice("acc", 5, limits=Limits(max_segments=1)))
    assert solve(problem).true_ns == 13 * 10 + 7 * 50 + 5


def test_few_choices_among_many_ops_are_all_tried() -> None:
    """More ops than an array may have dimensions."""
    costs: list[tuple[int | None, int | None]] = [(10, None)] * 100
    costs[40:44] = [(10, 4)] * 4
    problem = a_chain(costs, ProblemDevice("acc", 25, limits=Limits(max_segments=1)))
    found = exact(Judge(problem), COST_LIMIT, sums_are_floors=True)
    assert found.is_proven and found.assignment == solve(problem).assignment == (0,) * 100
    cheap = replace(problem, devices=(problem.devices[0], replace(problem.devices[1], launch=23)))
    found = exact(Judge(cheap), COST_LIMIT, sums_are_floors=True)
    assert found.assignment == solve(cheap).assignment == (0,) * 40 + (1,) * 4 + (0,) * 56


# --- devices that say of segments what they like


@pytest.mark.parametrize("n", [2, 30])
def test_a_segment_that_is_cheaper_than_its_ops_is_found(n: int) -> None:
    def estimate(device: int, ops: tuple[int, ...]) -> int | None:
        return 500 if device == 1 and len(ops) == n else None

    problem = a_chain([(400, 1_000)] * n, ProblemDevice("acc"))
    solution = solve(problem, estimate=estimate)
    assert (solution.true_ns, solution.bound_ns) == (500, None)
    split = a_chain([*[(400, 1_000)] * n, (400, None), *[(400, 1_000)] * n], ProblemDevice("acc"))
    assert solve(split, estimate=estimate).true_ns <= 1_000 + 400


def test_what_is_known_is_no_better_than_what_is_found() -> None:
    rng = np.random.default_rng(45)
    for _ in range(40):
        problem = random_problem(rng, 9, 3, has_limits=True)
        best = solve(problem)
        quick = solve(problem, is_quick=True, starts=[best.assignment])
        assert quick.true_ns == best.true_ns
        assert solve(problem, is_quick=True).true_ns >= best.true_ns
