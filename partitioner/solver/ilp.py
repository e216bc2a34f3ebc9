"""The surrogate of graphs that are too wide for elimination: value with proven bound. Imports the surrogate's modules.

First dominated devices go. Then the linear program's solution, if HiGHS is installed: its value is the bound, and its
shares say where the ops go, decided bit by bit in a dive. Else tensors are charged for their first readers alone, which
gives a bound, and a descent starts from the best known assignments. Every limit counts work, not seconds, so that the
same problem gives the same bytes; ``time_limit_s`` is there for what nobody foresaw.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from delegraph.partitioner.solver.elimination import TABLE_LIMIT, TooWide
from delegraph.partitioner.solver.linear import FloatArray, Program, program_of
from delegraph.partitioner.solver.problem import COST_LIMIT, IntArray, Problem
from delegraph.partitioner.solver.reduce import undominated
from delegraph.partitioner.solver.surrogate import Setting, Surrogate, surrogate_cost
from delegraph.partitioner.solver.true_cost import Judge

_DESCENTS = 12
"""Sweeps of a descent at most."""
_STARTS = 2
"""Known assignments that a descent starts from, beside the relaxation's."""
_DECIDED = 0.999
"""The share of an op from which on it counts as decided."""
_FEW, _SOME = 300, 1_000
"""Columns of what is undecided up to which it is branched on, and up to which it gets a dive of its own."""
_NARROWED = 0.8
"""The share of choices below which what dominance has left is worth another try at exact elimination."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much work wide graphs are worth. gap: share of the value that may stay unproven. subset_table: entries of a
    table for subsets of the devices. relaxed_table: for the lower bound. nodes, iterations: HiGHS's branching and
    simplex; columns: up to which it branches on a whole program. pace: a dive decides one part in so many of the
    undecided ops at a time. use_highs: False to do without it."""

    gap: float = 0.01
    subset_table: int = 1 << 14
    relaxed_table: int = 1 << 14
    nodes: int = 10
    columns: int = 2_000
    iterations: int = 50_000
    pace: int = 16
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
    n_choices = sum(map(len, problem.domains))
    if sum(map(len, domains)) <= _NARROWED * n_choices:
        try:
            (exact,) = Surrogate(problem, domains, limit=TABLE_LIMIT // 4, has_path=False).solve([setting])
        except TooWide:
            pass
        else:
            assert exact.assignment is not None
            return Wide(exact.assignment, exact.value, exact.value, "elimination of what dominance leaves")
    judge = Judge(problem)
    highspy = _highspy() if budget.use_highs else None
    if highspy is not None:
        found = _by_highs(highspy, judge, setting, domains, budget)
        if found is not None:
            return found
    relaxed, bound = _relaxed(problem, domains, setting, budget)
    value = surrogate_cost(problem, relaxed, entries)
    if value - bound <= budget.gap * value:
        return Wide(relaxed, value, bound, "relaxation")
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
    """Everything on a device that it can run, the rest on the host or under it; None where prefixes forbid that."""
    if device in problem.prefix_devices:
        return None
    found = []
    for domain in problem.domains:
        choice = next(d for d in (device, problem.host, *problem.under, *domain) if d in domain)
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
    sums = judge.additive([d if d in domain else domain[0] for d, domain in zip(start, domains, strict=True)], entries)
    dirty = {op for op, domain in enumerate(domains) if len(domain) > 1}
    for sweep in range(_DESCENTS):
        again: set[int] = set()
        for op in sorted(dirty, reverse=sweep % 2 == 1):
            change, device = min((sums.change((op,), d), d) for d in domains[op])
            if change < 0:
                sums.move((op,), device)
                again.update(o for o in judge.beside(op) if len(domains[o]) > 1)
        if not again:
            break
        dirty = again
    return tuple(sums.assignment), surrogate_cost(judge.problem, sums.assignment, entries)


def _by_highs(
    highspy: Any, judge: Judge, setting: Setting, domains: Sequence[tuple[int, ...]], budget: Budget
) -> Wide | None:
    """The linear program, and more work on its solution while the gap is too large; None if that gives nothing."""
    program = program_of(judge.problem, setting.entries, domains)
    relaxation = _Relaxation(highspy, program, budget)
    if relaxation.values is None:
        return None
    best: Wide | None = None
    for how, start, bound in _attempts(relaxation, judge.problem, setting, budget):
        assignment, value = _descended(judge, start, setting.entries, domains)
        if best is None or value < best.value:
            best = Wide(assignment, value, 0, how)
        best = replace(best, bound=min(best.value, max(bound, relaxation.bound)))
        if best.value - best.bound <= budget.gap * best.value:
            break
    return best


def _attempts(
    relaxation: _Relaxation, problem: Problem, setting: Setting, budget: Budget
) -> Iterator[tuple[str, list[int], int]]:
    """(how, assignment, bound), with more work each: every op where most of it is; the undecided ones decided while the
    others stay, by branching if they are few, else in a dive; a dive in which all may still move; branching."""
    program, highspy = relaxation.program, relaxation.highspy
    assert relaxation.values is not None
    shares = program.shares(relaxation.values)
    yield "linear programming", _clearest(shares), 0
    some = [tuple(np.flatnonzero(row >= 1 - _DECIDED).tolist()) for row in shares]
    narrow = program_of(problem, setting.entries, some)
    if len(narrow.costs) <= _FEW:
        values, _ = _branched(highspy, narrow, budget, relaxation.bound)
    elif len(narrow.costs) <= _SOME:
        inner = _Relaxation(highspy, narrow, budget)
        values = None if inner.values is None else inner.dive(budget.pace)
    else:
        values = None
    if values is not None:
        yield "linear programming and its undecided ops", _clearest(narrow.shares(values)), 0
    yield "linear programming and a dive", _clearest(program.shares(relaxation.dive(budget.pace))), 0
    if len(program.costs) <= budget.columns:
        values, bound = _branched(highspy, program, budget, relaxation.bound)
        if values is not None:
            yield "branch and bound", _clearest(program.shares(values)), bound


def _clearest(shares: FloatArray) -> list[int]:
    """Each op's device with the most of it."""
    found: list[int] = shares.argmax(axis=1).tolist()
    return found


class _Relaxation:
    """The program's solution with parts of ops allowed, and the solver, which solves it again from there with some ops
    decided. values: of the columns, or None if there are none. bound: in whole units."""

    def __init__(self, highspy: Any, program: Program, budget: Budget) -> None:
        self.highspy = highspy
        self.program = program
        self.values: FloatArray | None = None
        self.bound = 0
        if not len(program.costs):
            self.values, self.bound = program.costs, program.constant
            return
        self._solver = _solver(highspy, program, budget)
        self._solver.setOptionValue("presolve", "off")  # takes longer than it saves, and dives start from the basis
        self._solve()
        solution = self._solver.getSolution()
        if solution.value_valid and solution.dual_valid:
            self.values = np.array(solution.col_value)
            self.bound = program.bound(np.array(solution.row_dual))
            self._basis = self._solver.getBasis()

    def _solve(self) -> bool:
        self._solver.run()
        return bool(self._solver.getModelStatus() == self.highspy.HighsModelStatus.kOptimal)

    def _now(self) -> FloatArray:
        return np.array(self._solver.getSolution().col_value)

    def dive(self, pace: int) -> FloatArray:
        """Values that leave no op undecided, or the last ones if deciding the next ops leaves no solution. One part in
        ``pace`` of the undecided ops goes where it has the largest share, the clearest ones first, until none is
        left."""
        assert self.values is not None
        program, values = self.program, self.values
        n = program.n_choices
        self._bound_columns(np.arange(n), np.zeros(n), np.ones(n))
        self._solver.setBasis(self._basis)
        while True:
            shares = program.shares(values)
            most = shares.max(axis=1)
            left = np.flatnonzero((program.only < 0) & (most < _DECIDED))
            if not len(left):
                return values
            left = left[np.lexsort((left, -most[left]))][: max(4, len(left) // pace)]
            columns = program.choices[left]
            is_chosen = np.arange(columns.shape[1]) == shares[left].argmax(axis=1)[:, None]
            on = is_chosen[columns >= 0].astype(np.float64)
            self._bound_columns(columns[columns >= 0], on, on)
            if not self._solve():
                return values
            values = self._now()

    def _bound_columns(self, columns: IntArray, lower: FloatArray, upper: FloatArray) -> None:
        self._solver.changeColsBounds(len(columns), columns.astype(np.int32), lower, upper)


def _bound(value: float) -> int:
    """In whole units, at least 0, a little less than HiGHS says, for its arithmetic is not exact."""
    if not math.isfinite(value) or value >= COST_LIMIT:
        return 0
    return max(0, math.floor(value - 1e-9 * abs(value) - 1e-3))


def _branched(highspy: Any, program: Program, budget: Budget, bound: int = 0) -> tuple[FloatArray | None, int]:
    """(column values or None, lower bound in whole units) with ops in one piece. bound: what is known of it; a solution
    within the gap of it will do."""
    if not len(program.costs):
        return program.costs, program.constant
    solver = _solver(highspy, program, budget)
    if bound:
        solver.setOptionValue("objective_target", bound / (1 - budget.gap / 2))
    n = program.n_choices
    solver.changeColsIntegrality(n, np.arange(n, dtype=np.int32), np.array([highspy.HighsVarType.kInteger] * n))
    solver.run()
    info = solver.getInfo()
    has_values = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    values = np.array(solver.getSolution().col_value) if has_values else None
    return values, _bound(info.mip_dual_bound)


def _solver(highspy: Any, program: Program, budget: Budget) -> Any:
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
    solver.passModel(lp)
    return solver
