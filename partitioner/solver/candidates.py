"""Assignments worth judging: minima of surrogates and the bound they prove. Imports the surrogate's modules."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

from delegraph.partitioner.solver.elimination import TooWide
from delegraph.partitioner.solver.ilp import Budget, Wide, minimise_wide
from delegraph.partitioner.solver.problem import NEVER, Problem
from delegraph.partitioner.solver.surrogate import Setting, Surrogate, entries_of, surrogate_cost

_ALL_SUBSETS = 5
"""Devices up to which every subset is tried."""
_ENTRIES_AT_ONCE = 1 << 24
"""Entries of all tables of all settings that are made at once; beyond, one subset after another."""
_OPS_APART = 3_000
"""Ops of all subsets together that are solved one after another; beyond, pairs of devices go first, those with the host
before others."""


_PRICES = (1.0, 0.5, 0.25, 0.125, 1 / 16, 1 / 32)
"""What a byte of constants is charged on devices that have room for some, in shares of what fetching it takes."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An assignment and where it comes from. value, bound: of the surrogate there."""

    assignment: tuple[int, ...]
    value: int
    bound: int
    how: str


class Search:
    """Minima of the surrogates of a few λ on subsets of the devices, and ``bound``, which no TRUE is below.

    proves: False to look for assignments alone: the bound stays 0.

    Below TRUE is the surrogate of λ = 0 with one launch of some device, or of each where the assignments are those that
    use a whole subset; so is the surrogate that charges each entry on one path a launch, for along a path every entry
    is another segment.
    """

    def __init__(self, problem: Problem, weights: Sequence[Fraction], budget: Budget, *, proves: bool = True) -> None:
        self._problem = problem
        self._proves = proves
        self._weights = sorted({Fraction(0), *weights} if proves else set(weights))
        self._budget = budget
        n_used = len({d for domain in problem.domains for d in domain})
        self._is_complete = n_used <= _ALL_SUBSETS
        self._subsets = _subsets(problem, self._is_complete)
        self._surrogate: Surrogate | None = None
        self._values: list[tuple[int, int]] = []
        self.bound = 0

    def on_all(self) -> list[Candidate]:
        """The CPU alone, and the minima over all devices."""
        problem = self._problem
        found: list[Candidate] = []
        if (alone := problem.cpu_alone) is not None:
            cost = surrogate_cost(problem, alone, (0,) * len(problem.devices))
            found.append(Candidate(alone, cost, cost, "the cpu alone"))
        if not problem.ops:
            return found
        try:
            self._surrogate = Surrogate(problem, has_path=self._proves)
        except TooWide:
            return found + self._wide()
        if not self._proves:
            return found + self._quick(self._surrogate)
        more, self._values = _minima(problem, self._surrogate, self._subsets[:1], self._weights)
        own, path = self._values[0]
        self.bound = max(own + min(problem.launches[d] for d in self._subsets[0]), path)
        return found + more

    def _quick(self, surrogate: Surrogate) -> list[Candidate]:
        """The minima over all devices, and no bound."""
        named = _settings(self._problem, self._subsets[0], self._weights)[:-1]
        minima = surrogate.solve([setting for _, setting in named])
        return [
            Candidate(m.assignment, m.value, m.value, how)
            for (how, _), m in zip(named, minima, strict=True)
            if m.assignment is not None
        ]

    def _host_pairs(self) -> list[tuple[int, ...]]:
        problem = self._problem
        n = 2 + (problem.core is not None)
        return [s for s in self._subsets[1:] if len(s) == n and problem.host in s]

    def on_subsets(self, least: int = NEVER) -> list[Candidate]:
        """The minima over fewer devices, with λ = 0 and 1. least: TRUE of what is known; subsets whose launches alone,
        on top of the least sums over all devices, are no less are left out."""
        problem, surrogate = self._problem, self._surrogate
        weights = [weight for weight in self._weights if weight in (0, 1)]
        found: list[Candidate] = []
        if surrogate is None:
            return found
        launches = {s: sum(problem.launches[d] for d in s) for s in self._subsets}
        values = dict.fromkeys(self._subsets, self._values[0])  # a subset's are no less than those of all devices
        rest = [s for s in self._subsets[1:] if values[s][0] + launches[s] < least]
        if surrogate.order.entries * len(rest) * (len(weights) + 1) <= _ENTRIES_AT_ONCE:
            found, own = _minima(problem, surrogate, rest, weights)
            values |= zip(rest, own, strict=True)
        else:
            most = max(1, _OPS_APART // len(problem.ops))
            rest = sorted(rest, key=lambda s: (abs(len(s) - 2), problem.host not in s))[:most]
            for subset in rest:
                more, own = _minima(problem, Surrogate(problem, _within(problem, subset)), [subset], weights)
                found += more
                values[subset] = own[0]
        if self._is_complete:
            self.bound = max(self.bound, min(max(own + launches[s], path) for s, (own, path) in values.items()))
        return found

    @property
    def is_wide(self) -> bool:
        """Whether the tables over all devices were too large."""
        return self._surrogate is None and bool(self._problem.ops)

    def with_prices(self) -> list[Candidate]:
        """The minima over all devices where constants cost something on devices that have room for some alone: of a
        crowded device at a high price only what gains most stays, at a low one all but what hardly gains."""
        problem, surrogate = self._problem, self._surrogate
        if surrogate is None:
            return []
        n = len(problem.devices)
        names = _names(problem, self._subsets[0])
        prices = [
            tuple(share * 1e9 / problem.devices[d].stream_bytes_per_s if d in problem.rooms else 0.0 for d in range(n))
            for share in _PRICES
        ]
        entries = entries_of(problem, 1)
        minima = surrogate.solve([Setting(entries, (0,) * n, (True,) * n, price) for price in prices])
        return [
            Candidate(m.assignment, m.value, m.value, f"λ=1 on {names}, constants at {share:.3g} of their streaming")
            for share, m in zip(_PRICES, minima, strict=True)
            if m.assignment is not None
        ]

    def _wide(self) -> list[Candidate]:
        """Where the tables would be too large: pairs with the host exactly, all by dominance and linear programming."""
        problem, budget = self._problem, self._budget
        found = self._pairs() if self._proves else []
        names = _names(problem, self._subsets[0])
        known = [c.assignment for c in found]
        weights = (Fraction(0), Fraction(1)) if self._proves else (Fraction(1),)

        def minimum(weight: Fraction) -> Wide:
            return minimise_wide(problem, entries_of(problem, weight), known, budget)

        with ThreadPoolExecutor(len(weights)) as pool:  # HiGHS lets go of the interpreter; neither sees the other
            both = list(pool.map(minimum, weights))
        for weight, wide in zip(weights, both, strict=True):
            found.append(Candidate(wide.assignment, wide.value, wide.bound, f"λ={weight} on {names} by {wide.how}"))
            if not weight:
                self.bound = wide.bound + min(problem.launches[d] for d in self._subsets[0])
        return found

    def _pairs(self) -> list[Candidate]:
        """The minima on the host and one other device, where that is narrow enough."""
        problem = self._problem
        pairs = self._host_pairs()
        found: list[Candidate] = []
        failed: list[set[int]] = []
        narrow = {pair: _within(problem, pair) for pair in pairs}
        choices = {pair: {op for op, domain in enumerate(narrow[pair]) if len(domain) > 1} for pair in pairs}
        for pair in sorted(pairs, key=lambda pair: (len(choices[pair]), pair)):
            if any(choices[pair] >= ops for ops in failed):
                continue  # as wide at least as one that was too wide
            try:
                surrogate = Surrogate(problem, narrow[pair], limit=self._budget.subset_table)
            except TooWide:
                failed.append(choices[pair])
                continue
            found += _minima(problem, surrogate, [pair], self._weights)[0]
        return found


def _names(problem: Problem, subset: Sequence[int]) -> str:
    return ", ".join(problem.devices[d].id or "core" for d in subset)


def _within(problem: Problem, subset: Sequence[int]) -> list[tuple[int, ...]]:
    return [tuple(d for d in domain if d in subset) for domain in problem.domains]


def _subsets(problem: Problem, is_complete: bool) -> list[tuple[int, ...]]:
    """Sets of devices on which everything can run, larger ones first; those that leave an op no choice are in each."""
    used = sorted({d for domain in problem.domains for d in domain})
    fixed = {domain[0] for domain in problem.domains if len(domain) == 1}
    sizes = range(len(used), 0, -1) if is_complete else (len(used), len(used) - 1, 2, 1)
    found: dict[tuple[int, ...], None] = {}
    for size in sizes:
        for some in combinations(used, size):
            subset = tuple(sorted({*some, *fixed}))
            if all(not set(subset).isdisjoint(domain) for domain in set(problem.domains)):
                found[subset] = None
    return list(found)


def _settings(problem: Problem, subset: Sequence[int], weights: Sequence[Fraction]) -> list[tuple[str, Setting]]:
    """The surrogate of each λ on a subset, and the one that charges launches on the longest path alone."""
    n = len(problem.devices)
    names = _names(problem, subset)
    allowed = tuple(d in subset for d in range(n))
    nothing = (0,) * n
    found = [(f"λ={weight} on {names}", Setting(entries_of(problem, weight), nothing, allowed)) for weight in weights]
    return [*found, (f"launches on the longest path on {names}", Setting(nothing, problem.launches, allowed))]


def _minima(
    problem: Problem, surrogate: Surrogate, subsets: Sequence[tuple[int, ...]], weights: Sequence[Fraction]
) -> tuple[list[Candidate], list[tuple[int, int]]]:
    """The minima of every λ on every subset; for each subset the values of the first λ, which is 0, and of the longest
    path."""
    named = [_settings(problem, subset, weights) for subset in subsets]
    minima = surrogate.solve([one for per_subset in named for _, one in per_subset])
    found: list[Candidate] = []
    values: list[tuple[int, int]] = []
    for i, per_subset in enumerate(named):
        own = minima[i * len(per_subset) : (i + 1) * len(per_subset)]
        values.append((own[0].value, own[-1].value))
        for (how, _), minimum in zip(per_subset, own, strict=True):
            if minimum.assignment is not None:
                found.append(Candidate(minimum.assignment, minimum.value, minimum.value, how))
    return found, values
