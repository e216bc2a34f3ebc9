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
from delegraph.partitioner.solver.exact import exact
from delegraph.partitioner.solver.ilp import Budget
from delegraph.partitioner.solver.improve import WORK, improved
from delegraph.partitioner.solver.problem import COST_LIMIT, NEVER, Costs, NoEnergyModel, Problem, Unplaceable
from delegraph.partitioner.solver.repair import fitted, repaired
from delegraph.partitioner.solver.surrogate import surrogate_cost
from delegraph.partitioner.solver.true_cost import Judge, Run, SegmentEstimate, TrueCost, concurrent_time

WEIGHTS = (Fraction(0), Fraction(1, 2), Fraction(1), Fraction(2))
"""The λ that are tried."""
IMPROVED = 2
"""How many of the best candidates are improved."""
QUICK_WORK = WORK // 8
"""Op positions that a quick search may schedule while improving the best one."""
_ALONE = 8
"""Segments of what a device can run that are tried alone, the longest ones."""


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
    is_quick: bool = False,
    starts: Sequence[tuple[int, ...]] = (),
    estimates_exceed_sums: bool = False,
) -> Solution:
    """The best assignment that is found; the same for the same problem, byte for byte.

    objective: "latency", or "energy", which ``energy`` has the costs of. estimate: the devices' own estimates of
    segments. weights, improve: for ablations. is_quick: by one surrogate over all devices, a little worse perhaps.
    starts: assignments that are worth a try, and that the solution is no worse than. estimates_exceed_sums: the caller
    promises that no segment is estimated below the sum of its ops' costs, so that what bounds the sums bounds TRUE.

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
    has_bound = estimate is None or estimates_exceed_sums
    weights = (Fraction(1),) if is_quick else weights
    search = Search(problem, weights, budget or Budget(), proves=not is_quick)
    ranked.add([_known(problem, start) for start in starts])
    ranked.add(search.on_all())

    def is_open() -> bool:
        return not has_bound or ranked.least > search.bound

    if is_open() and not is_quick:
        ranked.add(search.on_subsets(ranked.least if has_bound else NEVER))
    if is_open() and problem.rooms:
        ranked.add(_priced(search, problem, weights, budget or Budget()))
        ranked.fit()
    if not has_bound:
        ranked.add(_whole(problem, judge))
    if is_open() and improve:
        ranked.improve(estimate is not None, *((1, QUICK_WORK) if is_quick else (IMPROVED, WORK)))
    bound = search.bound
    if (is_open() and improve and not is_quick) or ranked.is_empty:
        best = exact(judge, ranked.least, sums_are_floors=has_bound)
        if best.assignment is not None:
            ranked.add([replace(_known(problem, best.assignment), how="all assignments")])
        if best.is_proven and not ranked.is_empty:
            bound = ranked.least
    winner, cost, origin = ranked.best()
    alone = problem.cpu_alone
    return Solution(
        assignment=winner,
        true_ns=cost.total,
        runs=cost.runs,
        concurrent_ns=concurrent_time(problem, cost.runs, estimate) + cost.streaming,
        surrogate_ns=origin.value,
        surrogate_bound_ns=origin.bound,
        bound_ns=min(bound, cost.total) if has_bound else None,
        cpu_alone_ns=None if alone is None else judge.cost(alone).total,
        how=origin.how,
        is_exact=origin.value == origin.bound,
    )


def _known(problem: Problem, assignment: tuple[int, ...]) -> Candidate:
    cost = surrogate_cost(problem, assignment, (0,) * len(problem.devices))
    return Candidate(assignment, cost, cost, "what was known")


def _whole(problem: Problem, judge: Judge) -> list[Candidate]:
    """All that a device can run on that device, then each segment of that alone: what devices estimate as one may be
    less than any sum of ops lets expect."""
    found: list[tuple[int, ...]] = []
    elsewhere = [min((int(problem.op_costs[op, d]), d) for d in domain)[1] for op, domain in enumerate(problem.domains)]
    rest = elsewhere if problem.cpu_alone is None else problem.cpu_alone
    for d in range(len(problem.devices)):
        able = [d in domain for domain in problem.domains]
        if d != problem.host and any(able):
            found.append(tuple(d if can else other for can, other in zip(able, rest, strict=True)))
            runs = sorted((run[1] for run in judge.runs(found[-1]) if run[0] == d), key=len, reverse=True)
            for ops in runs[:_ALONE] if len(runs) > 1 else []:
                found.append(tuple(d if op in ops else other for op, other in enumerate(rest)))
    return [replace(_known(problem, assignment), how="whole segments") for assignment in found]


def _priced(search: Search, problem: Problem, weights: Sequence[Fraction], budget: Budget) -> list[Candidate]:
    """Minima where constants cost something; of wide graphs at the full price alone."""
    if not search.is_wide:
        return search.with_prices()
    return _renamed(Search(_with_streaming(problem), weights, budget).on_all())


def _with_streaming(problem: Problem) -> Problem:
    """The problem with every constant charged as if it were beyond the weight budget: what a crowded device costs."""
    rates = [device.stream_bytes_per_s if d in problem.rooms else 0 for d, device in enumerate(problem.devices)]
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
    def is_empty(self) -> bool:
        return not self._found

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

    def fit(self) -> None:
        """Adds the candidates with what a device has no room for taken from it."""
        for assignment in self._sorted():
            origin = self._found[assignment][1]
            how = f"{origin.how}, as much as there is room for"
            self.add([replace(origin, assignment=some, how=how) for some in fitted(self._judge, assignment)])

    def _put(self, assignment: tuple[int, ...], candidate: Candidate) -> None:
        if assignment not in self._found:
            self._found[assignment] = self._judge.cost(assignment), candidate

    def _sorted(self) -> list[tuple[int, ...]]:
        """By TRUE, then fewer segments, then the user's order of devices, op by op."""
        found = self._found
        return sorted(found, key=lambda a: (found[a][0].total, found[a][0].n_segments, a))

    def improve(self, has_estimates: bool, most: int, work: int) -> None:
        for assignment in self._sorted()[:most]:
            origin = self._found[assignment][1]
            better = improved(self._judge, assignment, has_estimates, work)
            self._put(better, replace(origin, how=f"{origin.how}, improved"))

    def best(self) -> tuple[tuple[int, ...], TrueCost, Candidate]:
        if not self._found:
            assert self._refusal is not None
            raise self._refusal
        winner = self._sorted()[0]
        return (winner, *self._found[winner])
