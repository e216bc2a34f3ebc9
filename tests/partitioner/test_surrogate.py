"""SURROGATE_λ: its minimum is that of brute force and of HiGHS, and what narrows the search loses nothing."""

from __future__ import annotations

import importlib
from fractions import Fraction

import numpy as np
import pytest
from tests.partitioner.problems import (
    SETS,
    all_assignments,
    all_surrogates,
    densenet,
    hrnet,
    random_problem,
    real_problems,
)
from tests.support import require, shared_path

from delegraph.partitioner.solver import ilp
from delegraph.partitioner.solver.elimination import TooWide
from delegraph.partitioner.solver.ilp import Budget, minimise_wide
from delegraph.partitioner.solver.linear import program_of
from delegraph.partitioner.solver.problem import COST_LIMIT, Problem
from delegraph.partitioner.solver.reduce import undominated
from delegraph.partitioner.solver.surrogate import Setting, Surrogate, entries_of, longest_path, setting, surrogate_cost

WEIGHTS = (Fraction(0), Fraction(1, 2), Fraction(1), Fraction(2))
TIGHT = Budget(gap=0.0, nodes=10_000, columns=1_000_000)


def problems(seed: int, n: int, n_ops: int = 10, n_devices: int = 3, *, has_limits: bool = False) -> list[Problem]:
    """n random problems of up to that size."""
    rng = np.random.default_rng(seed)
    return [
        random_problem(rng, int(rng.integers(1, n_ops + 1)), int(rng.integers(1, n_devices + 1)), has_limits=has_limits)
        for _ in range(n)
    ]


def _expect_brute_force(problem: Problem) -> None:
    minima = Surrogate(problem).solve([setting(problem, weight) for weight in WEIGHTS])
    for weight, minimum in zip(WEIGHTS, minima, strict=True):
        entries = entries_of(problem, weight)
        values = all_surrogates(problem, entries)
        assert minimum.value == values.min()
        assert minimum.assignment is not None
        assert surrogate_cost(problem, minimum.assignment, entries) == minimum.value


def test_minimum_is_that_of_brute_force() -> None:
    for problem in problems(0, 120) + problems(1, 60, has_limits=True):
        _expect_brute_force(problem)


@pytest.mark.slow
def test_minimum_is_that_of_brute_force_on_thousands() -> None:
    for problem in problems(2, 2000) + problems(3, 1000, has_limits=True):
        _expect_brute_force(problem)


def test_the_definition_in_the_tests_is_that_of_the_module() -> None:
    for problem in problems(4, 20, 5, has_limits=True):
        entries = entries_of(problem, 1)
        for assignment, value in zip(all_assignments(problem), all_surrogates(problem, entries), strict=True):
            found = surrogate_cost(problem, assignment.tolist(), entries)
            assert found == value or min(found, value) >= COST_LIMIT


def test_a_subset_of_the_devices() -> None:
    for problem in problems(5, 40, 7, has_limits=True):
        n = len(problem.devices)
        allowed = tuple(d % 2 == 0 for d in range(n))
        (minimum,) = Surrogate(problem).solve([Setting(entries_of(problem, 1), (0,) * n, allowed)])
        inside = np.array(allowed)[all_assignments(problem)].all(axis=1)
        values = all_surrogates(problem, entries_of(problem, 1))[inside]
        if values.size and values.min() < COST_LIMIT:
            assert minimum.value == values.min()
        else:
            assert minimum.assignment is None


def test_launches_on_the_longest_path() -> None:
    for problem in problems(6, 40, 7):
        n = len(problem.devices)
        nothing = (0,) * n
        (minimum,) = Surrogate(problem).solve([Setting(nothing, problem.launches, (True,) * n)])
        values = all_surrogates(problem, nothing)
        path = list(longest_path(problem))
        assert all(a in problem.before[b] for a, b in zip(path, path[1:], strict=False))
        along = all_assignments(problem)[:, path]
        entered = np.concatenate([np.ones((len(along), 1), bool), along[:, 1:] != along[:, :-1]], axis=1)
        assert minimum.value == (values + (np.array(problem.launches)[along] * entered).sum(axis=1)).min()


def test_pinned_minima() -> None:
    for problem in problems(13, 40, 7):
        pins = [(op, d) for op, domain in enumerate(problem.domains) for d in domain]
        minima = Surrogate(problem).solve_pinned(setting(problem, 1), pins)
        values, assignments = all_surrogates(problem, entries_of(problem, 1)), all_assignments(problem)
        for (op, d), minimum in zip(pins, minima, strict=True):
            assert minimum.value == values[assignments[:, op] == d].min()


def test_dominated_devices_are_not_missed() -> None:
    for problem in problems(7, 100, 8, has_limits=True):
        for weight in (0, 1):
            entries = entries_of(problem, weight)
            domains = undominated(problem, entries)
            assert all(own and set(own) <= set(whole) for own, whole in zip(domains, problem.domains, strict=True))
            kept = np.array(
                [all(d in own for d, own in zip(a, domains, strict=True)) for a in all_assignments(problem).tolist()]
            )
            values = all_surrogates(problem, entries)
            assert values[kept].min() == values.min()


def test_fewer_readers_give_a_lower_bound() -> None:
    for problem in problems(8, 60, 7, has_limits=True):
        least = all_surrogates(problem, entries_of(problem, 1)).min()
        for kept in (1, 2):
            surrogate = Surrogate(problem, kept_readers=kept, has_path=False)
            assert surrogate.solve([setting(problem, 1)])[0].value <= least


def test_a_table_limit_is_kept() -> None:
    problem = densenet(120, SETS["npu+gpu+dsp+cpu"])
    with pytest.raises(TooWide):
        Surrogate(problem, limit=1 << 12)
    assert Surrogate(problem, kept_readers=1, has_path=False).order.widest <= 1 << 12


@pytest.mark.parametrize("make", [densenet, hrnet])
def test_wide_graphs_have_a_proven_bound_with_and_without_a_solver(make: object) -> None:
    pytest.importorskip("highspy")
    assert callable(make)
    problem = make(150, SETS["npu+gpu+dsp+cpu"])
    for weight in (0, 1):
        entries = entries_of(problem, weight)
        plain = minimise_wide(problem, entries, [], Budget(gap=0.0, use_highs=False))
        solved = minimise_wide(problem, entries, [], Budget())
        for wide in (plain, solved):
            assert surrogate_cost(problem, wide.assignment, entries) == wide.value
        assert max(plain.bound, solved.bound) <= min(plain.value, solved.value)
        assert solved.value - solved.bound <= 0.01 * solved.value


def test_a_wide_minimum_and_its_bound_are_on_both_sides_of_brute_force() -> None:
    pytest.importorskip("highspy")
    for problem in problems(10, 80) + problems(11, 60, has_limits=True):
        for weight in (0, 1):
            entries = entries_of(problem, weight)
            least = all_surrogates(problem, entries).min()
            for budget in (Budget(), Budget(gap=0.0, nodes=0), Budget(use_highs=False)):
                wide = minimise_wide(problem, entries, [], budget)
                assert wide.bound <= least <= wide.value == surrogate_cost(problem, wide.assignment, entries)


def test_any_prices_give_a_bound() -> None:
    rng = np.random.default_rng(12)
    for problem in problems(12, 60):
        entries = entries_of(problem, 1)
        program = program_of(problem, entries, problem.domains)
        least = all_surrogates(problem, entries).min()
        for _ in range(5):
            assert program.bound(rng.normal(0, 50, len(program.lower))) <= least


def test_without_highspy_the_fallback_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", _missing)
    problem = densenet(150, SETS["npu+gpu+dsp+cpu"])
    wide = minimise_wide(problem, entries_of(problem, 1), [], Budget(gap=0.0))
    assert wide.how != "linear programming" and wide.bound <= wide.value


def _missing(name: str) -> None:
    raise ModuleNotFoundError(name)


def _expect_highs(problem: Problem) -> None:
    """HiGHS, over all devices that an op may run on, finds the same value."""
    highspy = pytest.importorskip("highspy")
    try:
        (minimum,) = Surrogate(problem).solve([setting(problem, 1)])
    except TooWide:
        return
    program = program_of(problem, entries_of(problem, 1), problem.domains)
    values, bound = ilp._branched(highspy, program, TIGHT)
    if minimum.value >= COST_LIMIT:
        return
    assert values is not None
    chosen = program.shares(values).argmax(axis=1).tolist()
    assert surrogate_cost(problem, chosen, entries_of(problem, 1)) == minimum.value
    assert minimum.value - 2 - minimum.value // 10**8 <= bound <= minimum.value


def test_highs_agrees_on_random_graphs() -> None:
    for problem in problems(9, 80, has_limits=True):
        _expect_highs(problem)


@pytest.mark.parametrize("devices", SETS)
def test_highs_agrees_on_real_graphs(devices: str) -> None:
    require("shared")
    for path in sorted((shared_path() / "models" / "real").glob("*.tflite")):
        for _, problem in real_problems(path, SETS[devices]):
            _expect_highs(problem)
