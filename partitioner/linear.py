"""SURROGATE_λ as a linear program. Imports partitioner.problem, surrogate, reduce.

    min Σ cost(v,d)·x[v,d] + Σ entry(t,d,e)·r[t,d,e]
    Σ_d x[v,d] = 1                                  an op is on one device
    Σ_d r[t,d,e] + x[producer,e] ≥ x[reader,e]      what a reader on e needs is there, made or moved
    r[t,d,e] ≤ x[producer,d]                        it is moved from where it was made

x: 0 or 1; r is then of itself. The dearest source of an entry needs no last row: taking it without cause never pays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from delegraph.partitioner.problem import COST_LIMIT, Problem
from delegraph.partitioner.reduce import entry_costs
from delegraph.partitioner.surrogate import Group, groups_of

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """min costs·z + constant, lower ≤ A z ≤ upper, 0 ≤ z ≤ 1, A by rows (starts, columns, values). The first n_choices
    columns are the x; choices: op → (device, column) of each."""

    costs: FloatArray
    constant: int
    lower: FloatArray
    upper: FloatArray
    starts: npt.NDArray[np.int32]
    columns: npt.NDArray[np.int32]
    values: FloatArray
    n_choices: int
    choices: tuple[tuple[tuple[int, int], ...], ...]

    def shares(self, values: Any) -> list[list[tuple[int, float]]]:
        """For each op (device, how much of it), rounded to six digits."""
        return [
            [(d, round(float(values[column]), 6)) for d, column in own] if len(own) > 1 else [(own[0][0], 1.0)]
            for own in self.choices
        ]


def program_of(problem: Problem, entries: Sequence[int], domains: Sequence[tuple[int, ...]]) -> Program:
    """The program over these domains. entries: λ·launch per device."""
    builder = _Builder(problem, domains)
    for group in groups_of(problem):
        builder.add(group, entry_costs(group, entries).tolist())
    if problem.prefix_devices:
        for earlier, later in problem.order:
            for d in problem.prefix_devices:
                if d in domains[later]:
                    builder.at_least(builder.terms(earlier, d), later, d)
    return builder.build()


class _Builder:
    """Columns and rows as they come."""

    def __init__(self, problem: Problem, domains: Sequence[tuple[int, ...]]) -> None:
        self._problem = problem
        self._domains = domains
        self._costs: list[int] = []
        self._constant = 0
        self._rows: list[tuple[float, float, list[tuple[int, float]]]] = []
        self._x: list[dict[int, int]] = []
        for op, domain in enumerate(domains):
            columns = {}
            if len(domain) > 1:
                for d in domain:
                    columns[d] = self._column(int(problem.op_costs[op, d]))
                self._rows.append((1.0, 1.0, [(c, 1.0) for c in columns.values()]))
            else:
                self._constant += int(problem.op_costs[op, domain[0]])
            self._x.append(columns)
        self._n_choices = len(self._costs)

    def _column(self, cost: int) -> int:
        self._costs.append(cost)
        return len(self._costs) - 1

    def _charge(self, op: int | None, device: int, cost: int) -> None:
        """Adds a cost of the op being on the device."""
        if op is None or len(self._domains[op]) == 1:
            self._constant += cost
        else:
            self._costs[self._x[op][device]] += cost

    def terms(self, op: int | None, device: int) -> list[tuple[int, float]] | None:
        """x[op, device] as terms of a row; None where it is 1 for sure."""
        home = self._problem.host if op is None else self._domains[op][0]
        if op is None or len(self._domains[op]) == 1:
            return None if home == device else []
        return [(self._x[op][device], 1.0)] if device in self._x[op] else []

    def at_least(self, terms: list[tuple[int, float]] | None, reader: int, device: int) -> None:
        """terms ≥ x[reader, device]."""
        right = self.terms(reader, device)
        if terms is None or right == []:
            return
        if right is None:
            self._rows.append((1.0, np.inf, terms))
        else:
            self._rows.append((0.0, np.inf, [*terms, (right[0][0], -1.0)]))

    def add(self, group: Group, costs: list[list[int]]) -> None:
        """What the group's tensors cost. costs: [home][device] of an entry."""
        producer = group.producer
        homes = (self._problem.host,) if producer is None else self._domains[producer]
        for d in homes:
            self._charge(producer, d, int(group.out[d]))
        fixed = {self._domains[op][0] for op in group.consumers if len(self._domains[op]) == 1}
        readers = [op for op in group.consumers if len(self._domains[op]) > 1]
        for e in sorted(fixed):
            for d in homes:
                if d != e:
                    self._charge(producer, d, costs[d][e])
        for e in sorted({d for op in readers for d in self._domains[op]} - fixed):
            own = [op for op in readers if e in self._domains[op]]
            sources = [d for d in homes if d != e]
            if not any(costs[d][e] for d in sources):
                continue
            if len(homes) == 1 and len(own) == 1:
                self._charge(own[0], e, costs[homes[0]][e])
                continue
            terms = self._entries(producer, e, sources, costs)
            made = self.terms(producer, e)
            for op in own:
                self.at_least(None if made is None else [*terms, *made], op, e)

    def _entries(
        self, producer: int | None, device: int, sources: Sequence[int], costs: list[list[int]]
    ) -> list[tuple[int, float]]:
        """Columns r of the entries to the device, one for each cost, with the rows that bound them."""
        by_cost: dict[int, list[int]] = {}
        for d in sources:
            if costs[d][device] < COST_LIMIT // 2:
                by_cost.setdefault(costs[d][device], []).append(d)
        found = []
        dearest = max(by_cost, default=0) if len(by_cost) and len(sources) == sum(map(len, by_cost.values())) else -1
        for cost, same in by_cost.items():
            column = self._column(cost)
            found.append((column, 1.0))
            made = [term for d in same for term in self.terms(producer, d) or ()]
            is_sure = any(self.terms(producer, d) is None for d in same)
            if cost != dearest and not is_sure:
                self._rows.append((0.0, np.inf, [*made, (column, -1.0)]))
        return found

    def build(self) -> Program:
        starts = np.cumsum([0, *(len(terms) for _, _, terms in self._rows)]).astype(np.int32)
        flat = [term for _, _, terms in self._rows for term in terms]
        return Program(
            costs=np.array(self._costs, np.float64),
            constant=self._constant,
            lower=np.array([low for low, _, _ in self._rows], np.float64),
            upper=np.array([high for _, high, _ in self._rows], np.float64),
            starts=starts,
            columns=np.array([column for column, _ in flat], np.int32),
            values=np.array([value for _, value in flat], np.float64),
            n_choices=self._n_choices,
            choices=tuple(
                tuple(own.items()) if own else ((domain[0], -1),)
                for own, domain in zip(self._x, self._domains, strict=True)
            ),
        )
