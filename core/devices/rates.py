"""Times of ops as sums of what they do: rates fitted to timings. Imports numpy only; pure functions of arrays.

``time = Σ rate_i · quantity_i`` with rates of at least 0, a roofline whose roofs add up. The fit is of relative errors,
least in absolute value, so that small ops count as much as large ones and one bad timing counts little. What the sum
leaves over is taken from the nearest timings, as far as they agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from delegraph.core.graph.graph import Array

REWEIGHTS = 8
"""Rounds of the fit."""

FLOOR = 0.03
"""Relative errors below this count alike: timings are no better."""

REACH = 0.35
"""Distance, as the logarithm of a quantity's ratio, at which a timing counts 0.6 of one at the same place."""

DOUBT = 0.5
"""The weight of "the sum is right" against timings nearby, each of at most 1."""


@dataclass(frozen=True)
class Rates:
    """Rates for quantities, and the places of the timings with what the sum leaves over there, as logarithms."""

    rates: Array
    places: Array
    rests: Array

    @classmethod
    def fitted(cls, quantities: Sequence[Sequence[float]], times: Sequence[float], doubt: float = 0.0) -> Rates:
        """quantities: [n, k], one row a timing. times: [n], above 0; each may be off by ``doubt``."""
        q, t = np.asarray(quantities, np.float64), np.asarray(times, np.float64)
        return cls._of(_least(q / (t + doubt)[:, None], t / (t + doubt)), q, t, doubt)

    def scaled(self, quantities: Sequence[Sequence[float]], times: Sequence[float], doubt: float = 0.0) -> Rates:
        """These rates, all but the first (which is paid once an op) times what fits timings that are too few to tell
        one rate from another."""
        q, t = np.asarray(quantities, np.float64), np.asarray(times, np.float64)
        rest, sums = np.maximum(t - q[:, 0] * self.rates[0], 0.0), q[:, 1:] @ self.rates[1:]
        factor = float(np.median((rest + doubt) / (sums + doubt + 1e-9)))
        rates = np.concatenate([self.rates[:1], factor * self.rates[1:]])
        return Rates._of(rates, q, t, doubt)

    @classmethod
    def _of(cls, rates: Array, q: Array, t: Array, doubt: float) -> Rates:
        return cls(rates, np.log1p(q), np.log((t + doubt) / (q @ rates + doubt + 1e-9)))

    def time(self, quantities: Sequence[float]) -> float:
        q = np.asarray(quantities, np.float64)
        near = ((self.places - np.log1p(q)) ** 2).sum(1)
        weights = np.exp(-near / (2 * REACH**2))
        rest = float(weights @ self.rests / (weights.sum() + DOUBT))
        return float(q @ self.rates * np.exp(rest))


def _least(a: Array, b: Array) -> Array:
    """x of at least 0 with the least Σ|log(1 + a·x - b)|, about: least squares, reweighted. Twice too slow is as bad
    as twice too fast.

    a: [n, k]; b: [n], at most 1. Columns that are all 0 get 0; a little weight pulls towards 0, for where there is a
    choice.
    """
    size = np.sqrt((a**2).sum(0))
    used = np.flatnonzero(size > 0)
    scaled = a[:, used] / size[used]
    x = np.zeros(len(used))
    weights = np.ones(len(a))
    for _ in range(REWEIGHTS):
        weighted = scaled * weights[:, None]
        square = weighted.T @ scaled + 1e-4 * np.eye(len(used)) * weights.mean()
        x = _least_squares(square, weighted.T @ b)
        off = scaled @ x - b
        error = np.abs(np.log(np.maximum(1 + off, 0.02)))
        weights = np.where(error < FLOOR, 1 / FLOOR, error / np.maximum(off**2, FLOOR**2 / 4))
    found = np.zeros(a.shape[1])
    found[used] = x / size[used]
    return found


def _least_squares(square: Array, target: Array) -> Array:
    """x of at least 0 with the least xᵀ·square·x / 2 - target·x; square: positive definite.

    Source: Lawson, Hanson: Solving Least Squares Problems, chapter 23 (NNLS).
    """
    x = np.zeros(len(target))
    positive = np.zeros(len(target), bool)
    for _ in range(3 * len(target)):
        rising = np.where(positive, -np.inf, target - square @ x)
        best = int(rising.argmax())
        if rising[best] <= 1e-9 * np.abs(target).max():
            break
        positive[best] = True
        while True:
            full = np.zeros(len(target))
            full[positive] = np.linalg.solve(square[np.ix_(positive, positive)], target[positive])
            falling = positive & (full <= 0)
            if not falling.any():
                x = full
                break
            step = float((x[falling] / np.maximum(x[falling] - full[falling], 1e-300)).min())
            x = x + step * (full - x)
            positive &= x > 1e-12 * max(1.0, float(x.max()))
            x[~positive] = 0.0
    return x
