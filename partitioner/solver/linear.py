"""SURROGATE_λ as a linear program. Imports solver.problem.

    min Σ cost(v,d)·x[v,d] + Σ entry(t,d,e)·r[t,d,e]
    Σ_d x[v,d] = 1                                  an op is on one device
    Σ_d r[t,d,e] + x[producer,e] ≥ x[reader,e]      what a reader on e needs is there, made or moved
    r[t,d,e] ≤ x[producer,d]                        it is moved from where it was made

x: 0 or 1; r is then of itself. The dearest source of an entry needs no last row: taking it without cause never pays.
Sources of one cost share an r. Everything is made for all tensors at once, in arrays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from delegraph.partitioner.solver.problem import COST_LIMIT, IntArray, Problem

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """min costs·z + constant, lower ≤ A z ≤ upper, 0 ≤ z ≤ 1, A by rows (starts, columns, values). The first n_choices
    columns are the x; choices: [op, device] → column, or -1 where there is none; only: the one device of ops that have
    no columns, else -1."""

    costs: FloatArray
    constant: int
    lower: FloatArray
    upper: FloatArray
    starts: npt.NDArray[np.int32]
    columns: npt.NDArray[np.int32]
    values: FloatArray
    n_choices: int
    choices: IntArray
    only: IntArray

    def shares(self, values: FloatArray) -> FloatArray:
        """[op, device] how much of the op is there, rounded to six digits."""
        found = np.zeros(self.choices.shape)
        has_column = self.choices >= 0
        found[has_column] = np.round(values[self.choices[has_column]], 6)
        sure = np.flatnonzero(self.only >= 0)
        found[sure, self.only[sure]] = 1.0
        return found

    def bound(self, duals: FloatArray) -> int:
        """What no solution is below, in whole units, by any prices of the rows: each column is taken as far as it pays
        at them. Nothing is asked of whoever found the prices; rounding is allowed for."""
        prices = np.where(np.isfinite(self.upper), duals, np.maximum(duals, 0.0))
        row = np.repeat(np.arange(len(prices)), np.diff(self.starts))
        worth = np.bincount(self.columns, self.values * prices[row], len(self.costs))
        value = self.constant + float(prices @ self.lower) + float(np.minimum(self.costs - worth, 0.0).sum())
        return max(0, math.ceil(value - 1e-9 * abs(value) - 1e-3))


def program_of(problem: Problem, entries: Sequence[int], domains: Sequence[tuple[int, ...]]) -> Program:
    """The program over these domains. entries: λ·launch per device."""
    return _Builder(problem, entries, domains).build()


class _Builder:
    """Columns and rows as they come. The op behind the last one is the host, as maker of the inputs."""

    def __init__(self, problem: Problem, entries: Sequence[int], domains: Sequence[tuple[int, ...]]) -> None:
        n_ops, n = len(problem.ops), len(problem.devices)
        self._problem = problem
        self._entry = problem.groups.entry_costs(entries)
        self._may = np.zeros((n_ops + 1, n), bool)
        for op, domain in enumerate(domains):
            self._may[op, list(domain)] = True
        self._may[n_ops, problem.host] = True
        self._is_free = self._may.sum(axis=1) > 1
        has_column = self._may & self._is_free[:, None]
        self._x = np.where(has_column, np.cumsum(has_column).reshape(has_column.shape) - 1, -1)
        self._n_choices = self._n_columns = int(has_column.sum())
        self._direct = np.zeros((n_ops + 1, n))  # what an op costs on a device, with what follows from that alone
        self._direct[:n_ops] = problem.op_costs
        self._column_costs: list[IntArray] = []
        self._lower: list[FloatArray] = []
        self._upper: list[FloatArray] = []
        self._row: list[IntArray] = []
        self._column: list[IntArray] = []
        self._value: list[FloatArray] = []
        self._n_rows = 0

    def build(self) -> Program:
        x = self._x[self._is_free]
        self._rows(len(x), 1.0, 1.0, [(x[:, d], 1.0) for d in range(x.shape[1])])
        self._add_groups()
        self._add_order()
        sure = np.flatnonzero(~self._is_free)
        only = np.where(self._is_free, -1, self._may.argmax(axis=1))
        constant = int(self._direct[sure, only[sure]].sum())
        costs = np.concatenate([self._direct[self._x >= 0], *self._column_costs])
        row, column, value = np.concatenate(self._row), np.concatenate(self._column), np.concatenate(self._value)
        kept = column >= 0
        row, column, value = row[kept], column[kept], value[kept]
        order = np.argsort(row, kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=self._n_rows))])
        return Program(
            costs=costs,
            constant=constant,
            lower=np.concatenate(self._lower),
            upper=np.concatenate(self._upper),
            starts=starts.astype(np.int32),
            columns=column[order].astype(np.int32),
            values=value[order],
            n_choices=self._n_choices,
            choices=self._x[:-1],
            only=only[:-1],
        )

    def _rows(self, n: int, lower: float | FloatArray, upper: float, terms: Sequence[tuple[IntArray, float]]) -> None:
        """n rows. terms: (column in each row or -1 for none, factor)."""
        rows = self._n_rows + np.arange(n)
        self._n_rows += n
        self._lower.append(np.broadcast_to(np.asarray(lower, np.float64), (n,)))
        self._upper.append(np.full(n, upper))
        for columns, value in terms:
            self._row.append(rows)
            self._column.append(columns)
            self._value.append(np.full(n, value))

    def _columns(self, costs: IntArray) -> IntArray:
        found: IntArray = self._n_columns + np.arange(len(costs))
        self._n_columns += len(costs)
        self._column_costs.append(costs)
        return found

    def _add_groups(self) -> None:
        """What tensors cost, and the rows that say so."""
        groups, may, entry = self._problem.groups, self._may, self._entry
        n = may.shape[1]
        maker, group, reader = groups.producer, groups.reader_group, groups.reader_op
        shape = len(groups.each), n
        reads = may[reader]
        fixed, some = np.zeros(shape, bool), np.zeros(shape, np.int64)
        sure = ~self._is_free[reader]
        fixed[group[sure], reads[sure].argmax(axis=1)] = True
        np.add.at(some, group, reads & ~sure[:, None])
        home = may[maker]
        source = home[:, :, None] & ~np.eye(n, dtype=bool)  # [group, d, e]: an entry to e from d
        np.add.at(self._direct, maker, groups.out)
        np.add.at(self._direct, maker, np.where(fixed[:, None], np.minimum(entry, COST_LIMIT), 0).sum(axis=2))
        open_ = (some > 0) & ~fixed & (np.where(source, entry, 0) > 0).any(axis=1)
        # With one home and one reader nothing has to be linked: the reader pays.
        alone = open_ & (home.sum(axis=1) == 1)[:, None] & (some == 1)
        price = np.where(source, entry, 0).sum(axis=1)
        pays = alone[group] & reads & ~sure[:, None]
        rows, devices = np.nonzero(pays)
        np.add.at(self._direct, (reader[rows], devices), price[group[rows], devices])
        linked = open_ & ~alone
        self._link(linked, source, np.nonzero(linked[group] & reads & ~sure[:, None]))

    def _link(self, linked: BoolArray, source: BoolArray, readers: tuple[IntArray, ...]) -> None:
        """Columns r for each (group, device) that is linked, and the rows of its readers, (reader's row, device)."""
        groups, x, entry = self._problem.groups, self._x, self._entry
        n = x.shape[1]
        at, to = np.nonzero(linked)
        number = np.full(linked.shape, -1)
        number[at, to] = np.arange(len(at))
        costs = entry[at, :, to]  # [linked, d]
        usable = source[at, :, to] & (costs < COST_LIMIT // 2)
        same = (costs[:, :, None] == costs[:, None, :]) & usable[:, :, None] & usable[:, None, :]
        first = usable & (same.argmax(axis=2) == np.arange(n))  # of the sources of one cost
        r = np.full(costs.shape, -1)
        r[first] = self._columns(costs[first])
        maker = groups.producer[at]
        dearest = np.where(usable, costs, -1).max(axis=1)
        has_all = (usable == source[at, :, to]).all(axis=1)
        is_sure = (same & (self._may[maker] & ~self._is_free[maker][:, None])[:, None, :]).any(axis=2)
        bounded = first & ~is_sure & ~(has_all[:, None] & (costs == dearest[:, None]))
        rows, d = np.nonzero(bounded)
        self._rows(
            len(rows), 0.0, np.inf,
            [(r[rows, d], -1.0), *((np.where(same[rows, d, b], x[maker[rows], b], -1), 1.0) for b in range(n))],
        )  # fmt: skip
        reader, device = readers
        row = number[groups.reader_group[reader], device]
        made = x[groups.producer[groups.reader_group[reader]], device]
        terms = [(r[row, d], 1.0) for d in range(n)]
        self._rows(len(row), 0.0, np.inf, [*terms, (made, 1.0), (x[groups.reader_op[reader], device], -1.0)])

    def _add_order(self) -> None:
        """A device that takes only a prefix keeps also what state puts in order."""
        problem = self._problem
        for earlier, later in problem.order if problem.prefix_devices else ():
            for d in problem.prefix_devices:
                if self._may[later, d]:
                    on = self._x[later, d]
                    sure = 0.0 if self._is_free[later] else 1.0
                    made = 1.0 if self._may[earlier, d] and not self._is_free[earlier] else 0.0
                    terms = [(np.array([self._x[earlier, d]]), 1.0), (np.array([on]), -1.0)]
                    self._rows(1, sure - made, np.inf, terms)
