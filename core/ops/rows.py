"""What ops along the last dimension share: rows in blocks, their sums, rules on the output's quantization, case data.

Imports core.ops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Shape
from delegraph.core.ops.cases import reals
from delegraph.core.ops.integer_sums import blocks
from delegraph.core.ops.movement import params
from delegraph.core.ops.opdef import Constraint, Kernel, Node


def row_shapes(node: Node) -> Sequence[Shape | None]:
    """``OpDef.shapes`` of an op whose output has the input's shape, with a last dimension to work along."""
    shape = node.input(0).shape
    node.expect(len(shape) > 0, "inputs[0]", "1 dimension or more", shape)
    return [shape]


def by_rows(node: Node, function: Callable[[Array], Array]) -> Kernel:
    """A kernel that applies a function of rows [n, depth] to blocks of them."""
    y = node.outputs[0]

    def run(x: Array) -> Sequence[Array]:
        out = np.empty(x.shape, y.dtype.numpy)
        if x.size > 0:
            rows, into = x.reshape(-1, x.shape[-1]), out.reshape(-1, x.shape[-1])
            with np.errstate(all="ignore"):
                for block in blocks(*rows.shape):
                    into[block] = function(rows[block])
        return (out,)

    return run


def sums(rows: Array) -> Array:
    """Sums [n, 1] of rows in their own type, added up from left to right as the reference does."""
    total: Array = np.add.accumulate(rows, axis=1)[:, -1:]
    return total


def fixed_output(expected: dict[DType, tuple[float, int]], tolerance: float = 0.0) -> Constraint:
    """The rule on scale and zero point of an output that has the input's type; tolerance: relative, of the scale."""

    def test(node: Node) -> str | None:
        y = node.outputs[0]
        if y.dtype is not node.input(0).dtype or y.dtype not in expected:
            return None
        scale, zero_point = expected[y.dtype]
        found_scale, found_zero = params(y)
        if abs(found_scale - scale) <= tolerance * scale and found_zero == zero_point:
            return None
        return f"scale {found_scale:g}, zero point {found_zero} of {y.dtype}"

    rules = ", ".join(f"of {dtype} 1/{1 / scale:g} and {zero}" for dtype, (scale, zero) in expected.items())
    return Constraint("output_quantization", f"the output's scale and zero point must be {rules}", test)


# --- cases --------------------------------------------------------------------------------------------------------

SHAPES: tuple[tuple[str, Shape], ...] = (
    ("row", (7,)),
    ("matrix", (3, 10)),
    ("rank_3", (2, 3, 5)),
    ("rank_4", (1, 2, 3, 4)),
    ("rank_5", (2, 1, 2, 1, 3)),
    ("one", (4, 1)),
    ("long", (2, 300)),
    ("empty", (0, 4)),
    ("depth_0", (3, 0)),
)

SCALAR: tuple[str, Shape] = ("scalar", ())
"""What these ops refuse."""


def some_shapes(rng: np.random.Generator) -> Iterator[tuple[str, Shape]]:
    """Named shapes to try: the fixed ones and some at random."""
    yield from SHAPES
    for i in range(3):
        yield f"random_{i}", tuple(int(n) for n in rng.integers(1, 12, rng.integers(1, 5)))


def special_rows(rng: np.random.Generator) -> Array:
    """float32 rows with infinities, NaN, and values far apart."""
    rows = reals(rng, (8, 4))
    rows[0], rows[1], rows[2, 0], rows[3, 0] = -np.inf, np.nan, np.nan, -np.inf
    rows[4, 1], rows[5], rows[6], rows[7, 2] = np.inf, 0, 1e30, -200
    return rows
