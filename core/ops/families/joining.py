"""CONCATENATION, PACK, UNPACK: tensors joined along an axis, and a new one.

Source: tflite/kernels/{concatenation,pack,unpack}.cc, kernels/internal/reference/concatenation.h.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization, Shape
from delegraph.core.ops import bounds
from delegraph.core.ops.cases import quantized
from delegraph.core.ops.fixed_point import round_half_away
from delegraph.core.ops.movement import (
    OTHER,
    SHIFTED,
    equal_quantization,
    one_type,
    params,
    resolve_axis,
    sizes,
    symmetric_int16,
    tensor,
)
from delegraph.core.ops.opdef import Case, Constraint, Form, Kernel, Node, OpDef, Operand, Result

# --- CONCATENATION ------------------------------------------------------------------------------------------------


def _concatenation_shapes(node: Node) -> Sequence[Shape | None]:
    shapes = [node.input(i).shape for i in range(max(1, len(node.inputs)))]
    first, axis = shapes[0], node.options.axis
    if not first:  # scalars make a vector
        node.expect(axis == 0, "axis", "0 for scalars", axis)
        node.expect(not any(shapes), "inputs", "scalars", shapes)
        return [(len(shapes),)]
    axis = resolve_axis(node.expect, axis, len(first))
    for i, shape in enumerate(shapes):
        node.expect(
            len(shape) == len(first)
            and all(n == m or d == axis for d, (n, m) in enumerate(zip(shape, first, strict=True))),
            f"inputs[{i}]",
            f"{first} but for axis {axis}",
            shape,
        )
    return [(*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])]


def _concatenate(node: Node) -> Kernel:
    axis = node.options.axis

    def run(*arrays: Array) -> Sequence[Array]:
        return (np.stack(arrays) if arrays[0].ndim == 0 else np.concatenate(arrays, axis),)

    return run


def rescale_table(s_in: float, z_in: int, s_out: float, z_out: int) -> Array | None:
    """For each uint8 value of an input its value in the output, or None when they are the same.

    Source: ConcatenationWithScaling (reference/concatenation.h); all in float32.
    """
    if (s_in, z_in) == (s_out, z_out):
        return None
    scale = np.float32(s_in) * (np.float32(1) / np.float32(s_out))
    bias = np.float32(-z_in) * scale
    q = round_half_away(np.arange(256, dtype=np.float32) * scale + bias).astype(np.float64) + z_out
    return np.asarray(np.clip(q, 0, 255), np.uint8)


def _concatenate_uint8(node: Node) -> Kernel:
    axis = node.options.axis
    s_out, z_out = params(node.outputs[0])
    tables = [
        None if len(spec.shape) == 0 else rescale_table(*params(spec), s_out, z_out)
        for spec in node.inputs
        if spec is not None
    ]

    def run(*arrays: Array) -> Sequence[Array]:
        if arrays[0].ndim == 0:  # scalars are copied whatever their scales are
            return (np.stack(arrays),)
        return (
            np.concatenate([x if table is None else table[x] for x, table in zip(arrays, tables, strict=True)], axis),
        )

    return run


def _unscaled_uint8(node: Node) -> str | None:
    """Inputs with a scale and an output without one: LiteRT divides by zero."""
    if node.outputs[0].dtype is not DType.UINT8 or params(node.outputs[0])[0] != 0:
        return None
    return "none" if any(spec is not None and params(spec) != (0.0, 0) for spec in node.inputs) else None


def _int8_equal(node: Node) -> str | None:
    # Scalars are joined before LiteRT compares.
    return EQUAL_INT8.test(node) if node.inputs and node.input(0).shape else None


EQUAL_INT8 = equal_quantization("int8", None)


def _concatenation_cases(rng: np.random.Generator) -> Iterator[Case]:
    dtypes = "float32 float16 int8 uint8 int16 int32 int64 bool uint32 int4 uint64 float64 string"
    for dtype in map(DType.parse, dtypes.split()):
        q = SHIFTED if dtype in (DType.INT8, DType.UINT8) and rng.random() < 0.5 else None
        for i in range(2):
            shape = sizes(rng, int(rng.integers(1, 6)), 1, 4)
            axis = int(rng.integers(-len(shape), len(shape)))
            at = axis % len(shape)
            parts = [
                tensor(rng, dtype, (*shape[:at], n, *shape[at + 1 :]), q, k > 0 and rng.random() < 0.2)
                for k, n in enumerate(rng.integers(0, 4, int(rng.integers(1, 5))))
            ]
            yield Case(f"{dtype}_{i}", tuple(parts), (Result(dtype, q),), {"axis": axis})
    a, b = tensor(rng, DType.FLOAT32, (2, 3)), tensor(rng, DType.FLOAT32, (2, 3))
    result = (Result(DType.FLOAT32),)
    for axis in (2, -3):
        yield Case(f"bad_axis_{axis}", (a, b), result, {"axis": axis})
    for activation in (1, 3):
        yield Case(f"activation_{activation}", (a, b), result, {"fused_activation_function": activation})
    yield Case("mismatch", (a, tensor(rng, DType.FLOAT32, (3, 3))), result, {"axis": 1})
    yield Case("ranks", (a, tensor(rng, DType.FLOAT32, (2,))), result, {"axis": 0})
    yield Case("types", (a, tensor(rng, DType.INT32, (2, 3))), result, {"axis": 0})
    yield Case("many", (a, b) * 20, result, {"axis": -1})
    for dtype in (DType.INT32, DType.UINT8, DType.BOOL, DType.INT8):
        scalars = tuple(tensor(rng, dtype, (), q, True) for q in (SHIFTED, OTHER))
        yield Case(f"scalars_{dtype}", scalars, (Result(dtype, SHIFTED),), {"axis": 0})
    for dtype in (DType.INT8, DType.INT16):
        for name, q in (("scale", OTHER), ("zero", Quantization.per_tensor(0.5, 4))):
            x, y = tensor(rng, dtype, (2,), SHIFTED), tensor(rng, dtype, (2,), q)
            yield Case(f"{dtype}_other_{name}", (x, y), (Result(dtype, SHIFTED),))
    for i in range(12):
        inputs = []
        for _ in range(int(rng.integers(1, 4))):
            scale = float(np.exp2(rng.integers(-3, 4))) * (0.1 if i % 2 else float(rng.uniform(0.05, 0.2)))
            zero = int(rng.choice([0, 255, 128, int(rng.integers(0, 256))]))
            q, data = quantized(rng, DType.UINT8, (3, 40), scale=scale, zero_point=zero)
            inputs.append(Operand(data, q))
        out = Quantization.per_tensor(0.1 if i % 2 else float(rng.uniform(0.05, 0.3)), int(rng.integers(0, 256)))
        yield Case(f"uint8_rescaled_{i}", tuple(inputs), (Result(DType.UINT8, out),), {"axis": 1})


# --- PACK, UNPACK -------------------------------------------------------------------------------------------------

PACK_TYPES = "float32|int8|uint8|int16|int32|uint32|int64"
UNPACK_TYPES = "float32|float16|bfloat16|int8|uint8|int16|int32|bool"


def _pack_shapes(node: Node) -> Sequence[Shape | None]:
    n, shape = len(node.inputs), node.input(0).shape
    node.expect(
        node.options.values_count == n,
        "values_count",
        f"{n}, the number of inputs",
        node.options.values_count,
    )
    axis = resolve_axis(node.expect, node.options.axis, len(shape) + 1)
    for i in range(n):
        node.expect(node.input(i).shape == shape, f"inputs[{i}]", f"the shape {shape}", node.input(i).shape)
    return [(*shape[:axis], n, *shape[axis:])]


def _pack(node: Node) -> Kernel:
    axis = node.options.axis
    return lambda *arrays: (np.stack(arrays, axis),)


def _unpack_shapes(node: Node) -> Sequence[Shape | None]:
    n, shape = len(node.outputs), node.input(0).shape
    node.expect(node.options.num == n, "num", f"{n}, the number of outputs", node.options.num)
    axis = resolve_axis(node.expect, node.options.axis, len(shape))
    node.expect(shape[axis] == n, "inputs[0]", f"size {n} along axis {axis}", shape)
    return [(*shape[:axis], *shape[axis + 1 :])] * n


def _unpack(node: Node) -> Kernel:
    axis = node.options.axis
    return lambda x: tuple(np.moveaxis(x, axis, 0))


def _pack_cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype in map(DType.parse, f"{PACK_TYPES}|bool|float16|uint64|float64".split("|")):
        for i in range(2):
            shape = sizes(rng, int(rng.integers(0, 5)), 1, 3)
            n = int(rng.integers(1, 5))
            q = SHIFTED if dtype in (DType.INT8, DType.UINT8) else None
            parts = tuple(tensor(rng, dtype, shape, q, rng.random() < 0.2) for _ in range(n))
            options = {"values_count": n, "axis": int(rng.integers(-len(shape) - 1, len(shape) + 1))}
            yield Case(f"{dtype}_{i}", parts, (Result(dtype, q),), options)
    a, b = tensor(rng, DType.INT32, (2, 3)), tensor(rng, DType.INT32, (2, 3))
    for axis, n in ((3, 2), (-4, 2), (0, 3), (-3, 2)):
        yield Case(f"axis_{axis}_{n}", (a, b), (Result(DType.INT32),), {"values_count": n, "axis": axis})
    options = {"values_count": 2}
    yield Case("mismatch", (a, tensor(rng, DType.INT32, (3, 2))), (Result(DType.INT32),), options)
    empty = tensor(rng, DType.INT32, (2, 0))
    yield Case("empty", (empty, empty), (Result(DType.INT32),), options)
    for dtype in (DType.INT8, DType.UINT8, DType.INT16):
        x, y = tensor(rng, dtype, (2,), SHIFTED), tensor(rng, dtype, (2,), OTHER)
        yield Case(f"{dtype}_inputs", (x, y), (Result(dtype, SHIFTED),), options)
        yield Case(f"{dtype}_output", (x, x), (Result(dtype, OTHER),), options)


def _unpack_cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype in map(DType.parse, f"{UNPACK_TYPES}|int64|uint32".replace("bfloat16|", "").split("|")):
        for i in range(3):
            shape = sizes(rng, int(rng.integers(1, 6)), 1, 4)
            axis = int(rng.integers(-len(shape), len(shape)))
            n, x = shape[axis], tensor(rng, dtype, shape)
            yield Case(f"{dtype}_{i}", (x,), (Result(dtype),) * n, {"num": n, "axis": axis})
    x = tensor(rng, DType.INT32, (2, 3))
    for axis, n in ((0, 3), (2, 3), (-3, 2), (-1, 3), (-2, 2)):
        yield Case(f"axis_{axis}_{n}", (x,), (Result(DType.INT32),) * n, {"num": n, "axis": axis})
    yield Case("empty", (tensor(rng, DType.INT32, (2, 0)),), (Result(DType.INT32),) * 2, {"num": 2})
    yield Case("scalar", (tensor(rng, DType.INT32, ()),), (Result(DType.INT32),), {"num": 1})
    for dtype in (DType.INT8, DType.UINT8, DType.INT16):
        for q in (SHIFTED, OTHER):
            yield Case(
                f"{dtype}_{q.scale}",
                (tensor(rng, dtype, (2, 2), SHIFTED),),
                (Result(dtype, q),) * 2,
                {"num": 2},
            )


# --- declarations -------------------------------------------------------------------------------------------------

CONCATENATION = OpDef(
    name="CONCATENATION",
    inputs=("inputs*",),
    outputs=("output",),
    options="ConcatenationOptions",
    versions=(1, 7),
    shapes=_concatenation_shapes,
    forms=(
        one_type("{T}* -> {T}", _concatenate, "float32|float16|bfloat16|int4|int8|int16|int32|uint32|int64|bool"),
        Form("uint8* -> uint8", _concatenate_uint8),
    ),
    constraints=(
        Constraint(
            "activation",
            "the fused activation must be NONE",
            lambda node: (
                f"activation {node.options.fused_activation_function}"
                if node.options.fused_activation_function
                else None
            ),
        ),
        Constraint(EQUAL_INT8.id, EQUAL_INT8.sentence, _int8_equal),
        symmetric_int16(None),
        Constraint("output_scale", "uint8 inputs with a scale need an output with a scale", _unscaled_uint8),
    ),
    bound=bounds.exact,
    cases=_concatenation_cases,
)

PACK = OpDef(
    name="PACK",
    inputs=("inputs*",),
    outputs=("output",),
    options="PackOptions",
    versions=(1, 5),
    shapes=_pack_shapes,
    forms=(one_type("{T}* -> {T}", _pack, PACK_TYPES),),
    constraints=(equal_quantization(slots=None),),
    bound=bounds.exact,
    cases=_pack_cases,
)

UNPACK = OpDef(
    name="UNPACK",
    inputs=("input",),
    outputs=("outputs*",),
    options="UnpackOptions",
    versions=(1, 6),
    shapes=_unpack_shapes,
    forms=(one_type("{T} -> {T}*", _unpack, UNPACK_TYPES),),
    constraints=(
        equal_quantization(),
        Constraint(
            "not_empty",
            "the input must have elements",
            lambda node: None if node.input(0).n_elements else f"shape {node.input(0).shape}",
        ),
    ),
    bound=bounds.exact,
    cases=_unpack_cases,
)

OPS = (CONCATENATION, PACK, UNPACK)
