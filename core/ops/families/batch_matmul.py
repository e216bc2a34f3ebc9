"""BATCH_MATMUL.

Source: tflite/kernels/batch_matmul.cc, kernels/internal/reference/batch_matmul.h. ``adj_x`` and ``adj_y`` transpose the
last two dimensions of an operand; the dimensions before them broadcast.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization, Shape
from delegraph.core.ops import bounds
from delegraph.core.ops.broadcasting import per_tensor
from delegraph.core.ops.cases import integers, quantized, reals
from delegraph.core.ops.fixed_point import quantize_multiplier
from delegraph.core.ops.integer_sums import (
    BLOCK_ELEMENTS,
    centred,
    exact_float,
    rescaled,
    value_range,
)
from delegraph.core.ops.opdef import (
    Case,
    Form,
    Kernel,
    Node,
    OpDef,
    Operand,
    Result,
    Work,
    elementwise_work,
    packed,
)

MAX_RANK = 5

# --- shapes and work ----------------------------------------------------------------------------------------------


def _oriented(shape: Shape, adjoint: bool) -> Shape:
    return (*shape[:-2], shape[-1], shape[-2]) if adjoint else shape


def _shapes(node: Node) -> Sequence[Shape | None]:
    for slot in (0, 1):
        shape = node.input(slot).shape
        node.expect(2 <= len(shape) <= MAX_RANK, f"inputs[{slot}]", f"2 to {MAX_RANK} dimensions", shape)
    x = _oriented(node.input(0).shape, node.options.adj_x)
    y = _oriented(node.input(1).shape, node.options.adj_y)
    node.expect(x[-1] == y[-2], "inputs[1]", f"{x[-1]} rows to multiply", y[-2])
    rank = max(len(x), len(y))
    lead = []
    for a, b in zip((1,) * (rank - len(x)) + x[:-2], (1,) * (rank - len(y)) + y[:-2], strict=True):
        node.expect(a == b or 1 in (a, b), "inputs", "shapes that broadcast", f"{x} and {y}")
        lead.append(b if a == 1 else a)
    return [(*lead, x[-2], y[-1])]


def _work(node: Node) -> Work:
    depth = _oriented(node.input(0).shape, node.options.adj_x)[-1]
    return elementwise_work(node, macs=node.outputs[0].n_elements * depth)


# --- kernels ------------------------------------------------------------------------------------------------------


def _turned(x: Array, adjoint: bool) -> Array:
    """A view with the last two dimensions swapped."""
    return x.swapaxes(-1, -2) if adjoint else x


def _product(x: Array, y: Array) -> Array:
    """``x @ y`` with broadcasting; one call of BLAS where ``y`` is the same matrix for every batch."""
    if y.ndim <= x.ndim and all(n == 1 for n in y.shape[:-2]) and x.ndim > 2:
        matrix = y.reshape(-1, y.shape[-1])
        flat = x.reshape(int(np.prod(x.shape[:-1])), x.shape[-1])
        return (flat @ matrix).reshape(*x.shape[:-1], matrix.shape[1])
    return x @ y


def _float(node: Node) -> Kernel:
    adj_x, adj_y = node.options.adj_x, node.options.adj_y
    return lambda x, y: (_product(_turned(x, adj_x), _turned(y, adj_y)),)


def _magnitude(node: Node, inputs: Sequence[Any]) -> Sequence[Any]:
    """Σ|x||y| per output element."""
    return _float(node)(*(np.abs(x) for x in inputs))


def _sums(node: Node, x_zp: int, y_zp: int) -> Any:
    """A function (x, y) → the exact integer sums as floats."""
    adj_x, adj_y = node.options.adj_x, node.options.adj_y
    x_range = value_range(node.input(0).dtype, x_zp)

    def pack(y: Array) -> Array:
        factors = _turned(y.astype(np.int32) - y_zp, adj_y)
        return factors.astype(exact_float(factors, -2, x_range))

    packed_y = packed(node.input(1), pack)

    def sums(x: Array, y: Array) -> Array:
        factors = packed_y(y)
        return _product(_turned(centred(x, x_zp, factors.dtype), adj_x), factors)

    return sums


def _int8(node: Node) -> Kernel:
    x_q, y_q, out_q = per_tensor(node, 0), per_tensor(node, 1), per_tensor(node, None)
    # the product of the two float32 scales is a float32
    multiplier, shift = quantize_multiplier(float(np.float64(x_q.scale * y_q.scale) / np.float64(out_q.scale)))
    sums = _sums(node, x_q.zero_point, y_q.zero_point)

    def run(x: Array, y: Array) -> Sequence[Array]:
        products = sums(x, y)
        flat, out = products.reshape(-1), np.empty(products.shape, np.int8)
        into = out.reshape(-1)
        for start in range(0, flat.size, BLOCK_ELEMENTS):
            part = slice(start, start + BLOCK_ELEMENTS)
            acc = flat[part].astype(np.int64).astype(np.int32)  # the accumulator wraps at 32 bits
            into[part] = rescaled(acc, multiplier, shift, out_q.zero_point, -128, 127)
        return (out,)

    return run


def _int32(node: Node) -> Kernel:
    """The sums of the stored integers: LiteRT looks at no zero point here."""
    sums = _sums(node, 0, 0)
    return lambda x, y: (sums(x, y).astype(np.int64).astype(np.int32),)


# --- cases --------------------------------------------------------------------------------------------------------

FIXED: tuple[tuple[str, Shape, Shape], ...] = (
    ("matrices", (3, 4), (4, 5)),
    ("row", (1, 7), (7, 3)),
    ("batch", (2, 3, 4), (2, 4, 5)),
    ("batch_left", (2, 3, 4), (4, 5)),
    ("batch_right", (3, 4), (2, 4, 5)),
    ("ones_right", (2, 3, 3, 4), (1, 1, 4, 2)),
    ("ones_left", (1, 3, 4), (3, 4, 5)),
    ("both", (2, 1, 3, 4), (3, 4, 2)),
    ("rank_5", (2, 1, 2, 3, 4), (1, 3, 1, 4, 2)),
    ("rank_5_and_2", (2, 1, 2, 3, 4), (4, 2)),
    ("depth_300", (2, 300), (300, 2)),
    ("empty_batch", (0, 3, 4), (4, 5)),
    ("empty_rows", (2, 0, 4), (2, 4, 5)),
    ("depth_0", (2, 3, 0), (2, 0, 5)),
    # refused
    ("rank_1", (4,), (4, 3)),
    ("rank_6", (1, 1, 1, 1, 2, 3), (3, 2)),
    ("misfit_depth", (2, 3), (4, 2)),
    ("misfit_batch", (2, 3, 4), (3, 4, 2)),
)


def _cases(rng: np.random.Generator) -> Iterator[Case]:
    shapes = list(FIXED)
    for i in range(4):
        lead = rng.integers(1, 4, rng.integers(0, 4))
        a = tuple(int(n) for n in np.where(rng.random(lead.size) < 0.3, 1, lead))
        b = tuple(int(n) for n in np.where(rng.random(lead.size) < 0.3, 1, lead))
        b = b[int(rng.integers(0, lead.size + 1)) :]
        m, k, n = (int(d) for d in rng.integers(1, 9, 3))
        shapes.append((f"random_{i}", (*a, m, k), (*b, k, n)))
    for name, x_shape, y_shape in shapes:
        adj_x, adj_y = bool(rng.random() < 0.5), bool(rng.random() < 0.5)
        if len(x_shape) > 1:
            x_shape = _oriented(x_shape, adj_x)
        y_shape = _oriented(y_shape, adj_y)
        name = f"{name}{'_adj_x' if adj_x else ''}{'_adj_y' if adj_y else ''}"
        options = {"adj_x": adj_x, "adj_y": adj_y}
        constant = (False, bool(rng.random() < 0.6)) if rng.random() < 0.7 else (True, False)
        operands = tuple(Operand(reals(rng, shape), constant=constant[k]) for k, shape in enumerate((x_shape, y_shape)))
        yield Case(f"float32_{name}", operands, (Result(DType.FLOAT32),), options)
        x_q, x = quantized(rng, DType.INT8, x_shape)
        y_q, y = quantized(rng, DType.INT8, y_shape)
        step = float(x_q.scale) * float(y_q.scale)
        out_q = Quantization.per_tensor(step * float(rng.uniform(10, 400)), int(integers(rng, DType.INT8, ())))
        operands = (Operand(x, x_q, constant=constant[0]), Operand(y, y_q, constant=constant[1]))
        yield Case(f"int8_{name}", operands, (Result(DType.INT8, out_q),), options)
        yield Case(f"int8_to_int32_{name}", operands, (Result(DType.INT32),), options)
    x = integers(rng, DType.INT8, (3, 9))
    y = integers(rng, DType.INT8, (9, 4))
    for zero in (-128, 127):
        for scale in (1e-7, 0.01, 1e4):
            q = Quantization.per_tensor(0.02, zero)
            out = (Result(DType.INT8, Quantization.per_tensor(scale, zero)),)
            yield Case(f"int8_zero_{zero}_scale_{scale:g}", (Operand(x, q), Operand(y, q)), out)


# --- declarations -------------------------------------------------------------------------------------------------

BATCH_MATMUL = OpDef(
    name="BATCH_MATMUL",
    inputs=("x", "y"),
    outputs=("output",),
    options="BatchMatMulOptions",
    versions=(1, 4),
    shapes=_shapes,
    work=_work,
    forms=(
        Form("float32, float32 -> float32", _float),
        Form("int8, int8 -> int8", _int8),
        Form("int8, int8 -> int32", _int32),
    ),
    bound=bounds.sums(_magnitude),
    cases=_cases,
)

OPS = (BATCH_MATMUL,)
