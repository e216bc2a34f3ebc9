"""How far a float result may be from the reference's, per element. Imports core.ops.opdef.

Integers and booleans are always exact; a bound speaks of float outputs only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from delegraph.core.graph.graph import Array
from delegraph.core.ops.opdef import Bound, Node


def exact(node: Node, inputs: Sequence[Any], expected: Sequence[Array]) -> Sequence[Any]:
    """Not at all: data movement, and arithmetic that IEEE 754 defines to the bit."""
    return [0.0] * len(expected)


def ulps(n: float, absolute: float = 0.0) -> Bound:
    """``n`` units in the last place of the expected value, or ``absolute`` if that is more (functions near zero)."""

    def bound(node: Node, inputs: Sequence[Any], expected: Sequence[Array]) -> Sequence[Any]:
        return [np.maximum(n * np.spacing(np.abs(y)), absolute) if y.dtype.kind == "f" else 0.0 for y in expected]

    return bound


def sums(magnitude: Callable[[Node, Sequence[Any]], Sequence[Any]], relative: float = 2e-5) -> Bound:
    """``relative`` times the sum of the magnitudes of what is added up (for products: Σ|a||b|), per element.

    magnitude: (node, inputs) → for each output that sum, of the output's shape (or broadcastable to it).
    """

    def bound(node: Node, inputs: Sequence[Any], expected: Sequence[Array]) -> Sequence[Any]:
        return [relative * m + np.finfo(np.float32).tiny for m in magnitude(node, inputs)]

    return bound
