"""The assignment of least TRUE that is found, and how good it is at least. Imports the rest of the solver.

SURROGATE_λ is minimised for a few λ on each subset of the devices, each minimum is repaired to the devices' limits and
judged by TRUE, and the best few are improved. The CPU alone is always among the candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from delegraph.core.errors import InvalidArgument
from delegraph.partitioner.solver.candidates import Candidate, Search
from delegraph.partitioner.solver.ilp import Budget
from delegraph.partitioner.solver.improve import improved, repaired
from delegraph.partitioner.solver.problem import COST_LIMIT, NEVER, Costs, NoEnergyModel, Problem, Unplaceable
from delegraph.partitioner.solver.true_cost import Judge, Run, SegmentEstimate, TrueCost, concurrent_time

WEIGHTS = (Fraction(0), Fraction(1, 2), Fraction(1), Fraction(2))
"""The λ that are tried."""
IMPROVED = 2
"""How many of the best candidates are improved."""


@dataclass(frozen=True, slots=True)
class Solution:
    """assignment: device per op. true_ns: its TRUE; runs: its segments. concurrent_ns: its time with resources side by
    side. surrogate_ns: the surrogate's value where it came from, and surrogate_bound_ns what no assignment is below
    there: the same if is_exact. bound_ns: what no assignment's TRUE is below (None with segment estimates that may be
    less than the sums that the bound is of). cpu_alone_ns: None where the CPU can't run everything. how: which λ and
    devices won. Nanojoules for nanoseconds where the objective is energy."""

    assignment: tuple[int, ...]
    true_ns: int
    runs: tuple[Run, ...]
    concurrent_ns: int
    surrogate_ns: int
    surrogate_bound_ns: int
    bound_ns: int | None
    cpu_alone_ns: int | None
    how: str
    is_exact: bool

    @property
    def gap(self) -> float:
        """The share of TRUE that the bound leaves open."""
        return 0.0 if self.bound_ns is None or not self.true_ns else (self.true_ns - self.bound_ns) / self.true_ns

    @property
    def surrogate_gap(self) -> float:
        """The share of the surrogate's value that its bound leaves open: 0 where it was solved exactly."""
        return (self.surrogate_ns - self.surrogate_bound_ns) / self.surrogate_ns if self.surrogate_ns else 0.0


def solve(
    problem: Problem,
    objective: str = "latency",
    energy: Costs | None = None,
    estimate: SegmentEstimate | None = None,
    budget: Budget | None = None,
    *,
    weights: Sequence[Fraction] = WEIGHTS,
    improve: bool = True,
    estimates_exceed_sums: bool = False,
) -> Solution:
    """The best assignment that is found; the same for the same problem, byte for byte.

    objective: "latency", or "energy", which ``energy`` has the costs of. estimate: the devices' own estimates of
    segments. weights, improve: for ablations. estimates_exceed_sums: the caller promises that no segment is estimated
    below the sum of its ops' costs, so that what bounds the sums bounds TRUE.

    Raises:
        InvalidArgument: another objective.
        NoEnergyModel: energy is to be least, and some candidate's is not known.
        Unplaceable: limits that can't be kept, since nothing else runs an op.
    """
    if objective not in ("latency", "energy"):
        raise InvalidArgument("objective", "'latency' or 'energy'", repr(objective))
    if objective == "energy":
        if energy is None:
            raise NoEnergyModel(tuple(device.id for device in problem.devices))
        problem, estimate = problem.with_costs(energy), None
    judge = Judge(problem, estimate)
    ranked = _Ranking(judge)
    search = Search(problem, weights, budget or Budget())
    ranked.add(search.on_all())
    has_bound = estimate is None or estimates_exceed_sums
    if not has_bound or ranked.least > search.bound:
        ranked.add(search.on_subsets(ranked.least if has_bound else NEVER))
        if judge.may_stream:
            ranked.add(_renamed(Search(_with_streaming(problem), weights, budget or Budget()).on_all()))
    if improve and (not has_bound or ranked.least > search.bound):
        ranked.improve(estimate is not None)
    winner, cost, origin = ranked.best()
    alone = problem.cpu_alone
    return Solution(
        assignment=winner,
        true_ns=cost.total,
        runs=cost.runs,
        concurrent_ns=concurrent_time(problem, cost.runs, estimate) + cost.streaming,
        surrogate_ns=origin.value,
        surrogate_bound_ns=origin.bound,
        bound_ns=min(search.bound, cost.total) if has_bound else None,
        cpu_alone_ns=None if alone is None else judge.cost(alone).total,
        how=origin.how,
        is_exact=origin.value == origin.bound,
    )


def _with_streaming(problem: Problem) -> Problem:
    """The problem with every constant charged as if it were beyond the weight budget: what a crowded device costs."""
    rates = [
        device.stream_bytes_per_s if device.limits.weight_budget_bytes is not None else 0 for device in problem.devices
    ]
    ops = [
        tuple(
            None if cost is None else cost + (op.weight_bytes * 1_000_000_000 // rate if rate else 0)
            for cost, rate in zip(op.costs, rates, strict=True)
        )
        for op in problem.ops
    ]
    return replace(problem, ops=tuple(replace(op, costs=costs) for op, costs in zip(problem.ops, ops, strict=True)))


def _renamed(candidates: Sequence[Candidate]) -> list[Candidate]:
    return [replace(c, how=f"{c.how}, all constants streamed") for c in candidates]


class _Ranking:
    """The candidates so far, repaired to the devices' limits, with TRUE."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._found: dict[tuple[int, ...], tuple[TrueCost, Candidate]] = {}
        self._seen: set[tuple[int, ...]] = set()
        self._refusal: Unplaceable | None = None

    @property
    def least(self) -> int:
        """The least TRUE so far."""
        return min((cost.total for cost, _ in self._found.values()), default=COST_LIMIT)

    def add(self, candidates: Sequence[Candidate]) -> None:
        for candidate in candidates:
            if candidate.assignment in self._seen:
                continue
            self._seen.add(candidate.assignment)
            try:
                assignment = repaired(self._judge, candidate.assignment)
            except Unplaceable as exc:
                self._refusal = exc
                continue
            self._put(assignment, candidate)

    def _put(self, assignment: tuple[int, ...], candidate: Candidate) -> None:
        if assignment not in self._found:
            self._found[assignment] = self._judge.cost(assignment), candidate

    def _sorted(self) -> list[tuple[int, ...]]:
        """By TRUE, then fewer segments, then the user's order of devices, op by op."""
        found = self._found
        return sorted(found, key=lambda a: (found[a][0].total, found[a][0].n_segments, a))

    def improve(self, has_estimates: bool) -> None:
        for assignment in self._sorted()[:IMPROVED]:
            origin = self._found[assignment][1]
            better = improved(self._judge, assignment, has_estimates)
            self._put(better, replace(origin, how=f"{origin.how}, improved"))

    def best(self) -> tuple[tuple[int, ...], TrueCost, Candidate]:
        if not self._found:
            assert self._refusal is not None
            raise self._refusal
        winner = self._sorted()[0]
        return (winner, *self._found[winner])
