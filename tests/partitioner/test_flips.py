"""What it takes to move an op: never less than brute force says, mostly the same, and quick on real graphs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.partitioner.problems import SETS, all_assignments, chain, densenet, with_budgets
from tests.partitioner.test_solve import dearer, least_true
from tests.partitioner.test_surrogate import problems

from delegraph.partitioner.solver.flips import flip_costs
from delegraph.partitioner.solver.problem import Problem, ProblemOp
from delegraph.partitioner.solver.solve import solve
from delegraph.partitioner.solver.true_cost import Judge, SegmentEstimate


def least_changes(problem: Problem, judge: Judge, assignment: tuple[int, ...]) -> list[dict[int, int]]:
    """The flips' costs by brute force over all assignments that keep the limits."""
    total = judge.cost(assignment).total
    found: list[dict[int, int]] = [{} for _ in assignment]
    for other in all_assignments(problem).tolist():
        cost = judge.cost(other)
        if judge.broken_limit(other, cost.runs) is None:
            for op, d in enumerate(other):
                if d != assignment[op]:
                    found[op][d] = min(found[op].get(d, cost.total), cost.total)
    return [{d: least - total for d, least in sorted(row.items())} for row in found]


def compare(problem: Problem, estimate: SegmentEstimate | None = None, *, exceed: bool = False) -> tuple[int, int, int]:
    """(exact, all, missing) flips of one problem. exceed: it is promised that estimates are no less than sums."""
    judge = Judge(problem, estimate)
    assignment = solve(problem, estimate=estimate).assignment
    ours = flip_costs(problem, judge, assignment, estimates_exceed_sums=exceed)
    least = least_changes(problem, judge, assignment)
    exact = n = missing = 0
    for op, (mine, best) in enumerate(zip(ours, least, strict=True)):
        assert mine.keys() <= best.keys() <= set(problem.domains[op]) - {assignment[op]}
        for d, change in best.items():
            n += 1
            missing += d not in mine
            assert mine.get(d, change) >= change
            exact += mine.get(d) == change
    return exact, n, missing


def share(several: list[Problem], has_estimates: bool = False, *, exceed: bool = False) -> tuple[float, float]:
    """The shares of flips that are exact and that are missing."""
    rows = [compare(problem, dearer(problem) if has_estimates else None, exceed=exceed) for problem in several]
    exact, n, missing = (sum(row[i] for row in rows) for i in range(3))
    return exact / n, missing / n


def test_never_below_brute_force_and_mostly_the_same() -> None:
    exact, missing = share(problems(50, 60, 7))
    assert exact > 0.9 and missing == 0


def test_within_limits_and_weight_budgets() -> None:
    rng = np.random.default_rng(51)
    exact, missing = share([with_budgets(rng, p) for p in problems(51, 60, 6, has_limits=True)])
    assert exact > 0.7 and missing < 0.1


@pytest.mark.parametrize("exceed", [False, True])
def test_with_estimates_of_segments(exceed: bool) -> None:
    exact, missing = share(problems(52, 40, 6), has_estimates=True, exceed=exceed)
    assert exact > 0.8 and missing == 0


def test_an_op_that_is_that_much_cheaper_moves() -> None:
    for problem in problems(53, 10, 6):
        assignment = solve(problem).assignment
        for op, row in enumerate(flip_costs(problem, Judge(problem), assignment)):
            for d, change in row.items():
                cost = problem.ops[op].costs[d]
                assert cost is not None
                if 0 <= change < cost:  # one cheaper than what it takes: the choice is no longer the best
                    costs = [c if e != d else cost - change - 1 for e, c in enumerate(problem.ops[op].costs)]
                    cheaper = list(problem.ops)
                    cheaper[op] = ProblemOp(tuple(costs))
                    moved = replace(problem, ops=tuple(cheaper))
                    assert least_true(moved) < Judge(moved).cost(assignment).total


@pytest.mark.parametrize("make", [chain, densenet])
def test_large_graphs_are_all_told_in_the_same_words_each_time(make: object) -> None:
    assert callable(make)
    problem: Problem = make(240, SETS["npu+gpu+dsp+cpu"])
    assignment = solve(problem).assignment
    found = flip_costs(problem, Judge(problem), assignment)
    assert found == flip_costs(problem, Judge(problem), assignment)
    for row, domain, chosen in zip(found, problem.domains, assignment, strict=True):
        assert row.keys() <= set(domain) - {chosen}
    n = sum(map(len, found))
    assert n > 0.9 * sum(len(domain) - 1 for domain in problem.domains)


def test_other_assignments_count() -> None:
    problem = problems(54, 1, 9)[0]
    judge = Judge(problem)
    assignment = solve(problem).assignment
    other = [domain[-1] for domain in problem.domains]
    total = judge.cost(other).total - judge.cost(assignment).total
    found = flip_costs(problem, judge, assignment, [other])
    for op, d in enumerate(other):
        assert d == assignment[op] or found[op][d] <= total
