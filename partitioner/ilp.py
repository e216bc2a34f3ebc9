"""The surrogate of graphs that are too wide for elimination: value with proven bound. Imports the surrogate's modules.

First dominated devices go, and tensors are charged for their first readers alone, which gives a lower bound; often that
is enough. Else HiGHS, if it is installed; if not, a descent from the best known assignments. Every limit counts work,
not seconds, so that the same problem gives the same bytes; ``time_limit_s`` is there for what nobody foresaw.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from delegraph.partitioner.elimination import TABLE_LIMIT, TooWide
from delegraph.partitioner.linear import Program, program_of
from delegraph.partitioner.problem import COST_LIMIT, Problem
from delegraph.partitioner.reduce import undominated
from delegraph.partitioner.surrogate import Setting, Surrogate, groups_of, surrogate_cost
from delegraph.partitioner.true_cost import Judge

_DESCENTS = 12
"""Sweeps of a descent at most."""
_ROUNDING_TABLE = 1 << 15
"""Entries of a table when a fractional solution is rounded."""
_LEAST_SHARE = 0.05
"""The share of an op from which on a device remains a choice when a fractional solution is rounded."""
_WINDOW = 40
"""Ops that are chosen anew together."""
_STARTS = 2
"""Known assignments that a descent starts from, beside the relaxation's."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much work wide graphs are worth. gap: share of the value that may stay unproven. subset_table: entries of a
    table for subsets of the devices. relaxed_table: for the lower bound. nodes, iterations: HiGHS's branching and
    simplex; columns: up to which it branches at all. use_highs: False to do without it."""

    gap: float = 0.01
    subset_table: int = 1 << 14
    relaxed_table: int = 1 << 14
    nodes: int = 10
    columns: int = 2_000
    iterations: int = 50_000
    time_limit_s: float = 60.0
    use_highs: bool = True


@dataclass(frozen=True, slots=True)
class Wide:
    """An assignment, its SURROGATE_λ, and what no assignment's is below. how: what found it, for the record."""

    assignment: tuple[int, ...]
    value: int
    bound: int
    how: str


def minimise_wide(
    problem: Problem, entries: tuple[int, ...], starts: Sequence[tuple[int, ...]], budget: Budget
) -> Wide:
    """SURROGATE_λ as small as the budget makes it. entries: λ·launch per device. starts: assignments that are known."""
    n = len(problem.devices)
    setting = Setting(entries, (0,) * n, (True,) * n)
    domains = undominated(problem, entries)
    try:
        (exact,) = Surrogate(problem, domains, limit=TABLE_LIMIT // 4, has_path=False).solve([setting])
    except TooWide:
        pass
    else:
        assert exact.assignment is not None
        return Wide(exact.assignment, exact.value, exact.value, "elimination of what dominance leaves")
    relaxed, bound = _relaxed(problem, domains, setting, budget)
    value = surrogate_cost(problem, relaxed, entries)
    if value - bound <= budget.gap * value:
        return Wide(relaxed, value, bound, "relaxation")
    judge = Judge(problem)
    highspy = _highspy() if budget.use_highs else None
    if highspy is not None:
        found = _by_highs(highspy, judge, setting, domains, budget)
        if found is not None:
            return replace(found, bound=max(found.bound, min(found.value, bound)))
    single = [_single(problem, d) for d in range(n)]
    known = {a for a in (*starts, *single) if a is not None}
    tried = [relaxed, *sorted(known, key=lambda a: (surrogate_cost(problem, a, entries), a))[:_STARTS]]
    best, value = min((_descended(judge, a, entries, domains) for a in tried), key=lambda a: (a[1], a[0]))
    return Wide(best, value, min(bound, value), "descent")


def _highspy() -> Any:
    """The solver's module, or None where it is not installed."""
    try:
        return importlib.import_module("highspy")
    except ImportError:
        return None


def _single(problem: Problem, device: int) -> tuple[int, ...] | None:
    """Everything on a device that it can run, the rest on the host; None where prefixes forbid that."""
    if device in problem.prefix_devices:
        return None
    found = []
    for domain in problem.domains:
        choice = next(d for d in (device, problem.host, *domain) if d in domain)
        found.append(choice)
    return tuple(found)


def _relaxed(
    problem: Problem, domains: Sequence[tuple[int, ...]], setting: Setting, budget: Budget
) -> tuple[tuple[int, ...], int]:
    """The minimum if tensors are charged for their first readers alone; with one each, the readers form a forest."""
    try:
        surrogate = Surrogate(problem, domains, limit=budget.relaxed_table, kept_readers=2, has_path=False)
    except TooWide:
        surrogate = Surrogate(problem, domains, kept_readers=1, has_path=False)
    (minimum,) = surrogate.solve([setting])
    assert minimum.assignment is not None
    return minimum.assignment, minimum.value


def _descended(
    judge: Judge, start: Sequence[int], entries: tuple[int, ...], domains: Sequence[tuple[int, ...]]
) -> tuple[tuple[int, ...], int]:
    """A local minimum of SURROGATE_λ: each op in turn goes where it costs least, back and forth."""
    problem = judge.problem
    assignment = [d if d in domain else domain[0] for d, domain in zip(start, domains, strict=True)]
    dirty = {op for op, domain in enumerate(domains) if len(domain) > 1}
    for sweep in range(_DESCENTS):
        again: set[int] = set()
        for op in sorted(dirty, reverse=sweep % 2 == 1):
            change, device = min((judge.additive_change(assignment, (op,), d, entries), d) for d in domains[op])
            if change < 0:
                assignment[op] = device
                again.update(o for o in judge.beside(op) if len(domains[o]) > 1)
        if not again:
            break
        dirty = again
    return tuple(assignment), surrogate_cost(problem, assignment, entries)


def _by_highs(
    highspy: Any, judge: Judge, setting: Setting, domains: Sequence[tuple[int, ...]], budget: Budget
) -> Wide | None:
    """The linear program, and branching where that leaves too large a gap; None if neither gives a solution."""
    program = program_of(judge.problem, setting.entries, domains)
    best: Wide | None = None
    bound = 0
    for is_integer in (False, True):
        if is_integer and len(program.costs) > budget.columns:
            break
        values, proven = _run(highspy, program, is_integer, budget)
        bound = max(bound, proven)
        if values is not None:
            shares = program.shares(values)
            start = _rounded(judge.problem, setting, shares)
            assignment, value = _descended(judge, start, setting.entries, domains)
            if value - bound > budget.gap * value:
                assignment, value = _windowed(judge.problem, setting, assignment, value, shares)
            how = "branch and bound" if is_integer else "linear programming"
            if best is None or value < best.value:
                best = Wide(assignment, value, bound, how)
        if best is not None:
            best = replace(best, bound=min(best.value, bound))
            if best.value - best.bound <= budget.gap * best.value:
                break
    return best


def _rounded(problem: Problem, setting: Setting, shares: Sequence[Sequence[tuple[int, float]]]) -> tuple[int, ...]:
    """The best assignment on the devices that have a share of an op, if that is not too wide either; else each op goes
    to the device with the most of it."""
    for settled in (0.95, 0.8, 0.65, 0.5):
        domains = []
        for own in shares:
            most = min(own, key=lambda choice: (-choice[1], choice[0]))
            some = (most[0],) if most[1] >= settled else tuple(d for d, share in own if share >= _LEAST_SHARE)
            domains.append(some or (most[0],))
        try:
            surrogate = Surrogate(problem, domains, limit=_ROUNDING_TABLE, has_path=False)
        except TooWide:
            continue
        (minimum,) = surrogate.solve([setting])
        if minimum.assignment is not None:
            return minimum.assignment
    return tuple(min(own, key=lambda choice: (-choice[1], choice[0]))[0] for own in shares)


def _windowed(
    problem: Problem,
    setting: Setting,
    start: tuple[int, ...],
    value: int,
    shares: Sequence[Sequence[tuple[int, float]]],
) -> tuple[tuple[int, ...], int]:
    """The assignment with one stretch of ops after another chosen anew, exactly, given all others."""
    assignment = start
    groups = groups_of(problem)
    for first in range(0, len(start), _WINDOW // 2):
        window = range(first, first + _WINDOW)
        domains = [
            tuple(sorted({now, *(d for d, share in own if share >= _LEAST_SHARE)})) if op in window else (now,)
            for op, (now, own) in enumerate(zip(assignment, shares, strict=True))
        ]
        near = [g for g in groups if g.producer in window or any(op in window for op in g.consumers)]
        try:
            surrogate = Surrogate(problem, domains, limit=_ROUNDING_TABLE, has_path=False, groups=near)
        except TooWide:
            continue
        (minimum,) = surrogate.solve([setting])  # its value lacks the tensors elsewhere
        if minimum.assignment is not None and minimum.assignment != assignment:
            found = surrogate_cost(problem, minimum.assignment, setting.entries)
            if found < value:
                assignment, value = minimum.assignment, found
    return assignment, value


def _run(highspy: Any, program: Program, is_integer: bool, budget: Budget) -> tuple[Any, int]:
    """(column values or None, lower bound in whole units)."""
    if not len(program.costs):
        return program.costs, program.constant
    solver = highspy.Highs()
    for name, value in {
        "output_flag": False,
        "threads": 1,
        "parallel": "off",
        "random_seed": 0,
        "time_limit": budget.time_limit_s,
        "simplex_iteration_limit": budget.iterations,
        "mip_max_nodes": budget.nodes,
        "mip_rel_gap": budget.gap / 2,
        "mip_abs_gap": 0.5,
    }.items():
        solver.setOptionValue(name, value)
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(program.costs), len(program.lower)
    lp.col_cost_ = program.costs
    lp.col_lower_, lp.col_upper_ = np.zeros(lp.num_col_), np.ones(lp.num_col_)
    lp.row_lower_, lp.row_upper_ = program.lower, program.upper
    lp.offset_ = float(program.constant)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = program.starts, program.columns, program.values
    if is_integer:
        kinds = [highspy.HighsVarType.kInteger] * program.n_choices
        lp.integrality_ = kinds + [highspy.HighsVarType.kContinuous] * (lp.num_col_ - program.n_choices)
    solver.passModel(lp)
    solver.run()
    info, status = solver.getInfo(), solver.getModelStatus()
    bound = 0.0
    if is_integer:
        bound = info.mip_dual_bound
    elif status == highspy.HighsModelStatus.kOptimal:
        bound = info.objective_function_value
    if not math.isfinite(bound) or bound >= COST_LIMIT:
        bound = 0.0
    has_values = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    values = np.array(solver.getSolution().col_value) if has_values else None
    return values, max(0, math.floor(bound - 1e-9 * abs(bound) - 1e-3))
