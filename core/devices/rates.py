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

SWEEPS = 200
REWEIGHTS = 8

FLOOR = 0.03
"""Relative errors below this count alike: timings are no better."""

REACH = 0.35
"""Distance, as the logarithm of a quantity's ratio, at which a timing counts 1/e² of one at the same place."""

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
        rates = _least(q / (t + doubt)[:, None], t / (t + doubt))
        rests = np.log((t + doubt) / (q @ rates + doubt + 1e-9))
        return cls(rates, np.log1p(q), rests)

    def time(self, quantities: Sequence[float]) -> float:
        q = np.asarray(quantities, np.float64)
        near = ((self.places - np.log1p(q)) ** 2).sum(1)
        weights = np.exp(-near / (2 * REACH**2))
        rest = float(weights @ self.rests / (weights.sum() + DOUBT))
        return float(q @ self.rates * np.exp(rest))


def _least(a: Array, b: Array) -> Array:
    """x of at least 0 with the least Σ|log(1 + a·x - b)|, about: least squares, reweighted, by coordinates. Twice too
    slow is then as bad as twice too fast.

    a: [n, k]; b: [n], at most 1. Columns that are all 0 get 0; a little weight pulls towards 0, for where there is a
    choice.
    """
    size = np.sqrt((a**2).sum(0))
    used = size > 0
    scaled = np.where(used, a / np.where(used, size, 1.0), 0.0)
    x = np.zeros(a.shape[1])
    weights = np.ones(len(a))
    for _ in range(REWEIGHTS):
        weighted = scaled * weights[:, None]
        square = weighted.T @ scaled + 1e-4 * np.eye(len(x)) * weights.mean()
        target = weighted.T @ b
        for _ in range(SWEEPS):
            before = x.copy()
            for i in np.flatnonzero(used):
                x[i] = max(0.0, x[i] + (target[i] - square[i] @ x) / square[i, i])
            if np.abs(x - before).max() < 1e-9:
                break
        off = scaled @ x - b
        error = np.abs(np.log(np.maximum(1 + off, 0.02)))
        weights = np.where(error < FLOOR, 1 / FLOOR, error / np.maximum(off**2, FLOOR**2 / 4))
    found: Array = np.where(used, x / np.where(used, size, 1.0), 0.0)
    return found
