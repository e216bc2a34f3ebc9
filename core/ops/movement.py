"""What the families of data movement share: types, rules on quantization, shapes and axes held in operands, case data.

These ops copy elements without looking at them, so a form takes many types at once: ``one_type`` makes it. Operands
that say where to (shapes, axes, begins) are read in two places, with the same function: by ``shapes`` when the value
is known, which refuses the model (``node.expect``), and by the kernel, which refuses the data (``at_run``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization
from delegraph.core.ops.cases import booleans, integers, reals
from delegraph.core.ops.opdef import Constraint, Form, Kernel, Node, Operand, TensorSpec, Work

# --- types --------------------------------------------------------------------------------------------------------

WORDS = (
    "float32|float16|bfloat16|float64|complex64|float8_e4m3fn|float8_e5m2|bool|int8|uint8|int16|uint16|int32|uint32"
    "|int64|uint64"
)
"""The types of 8 to 64 bits, for kernels that switch on the size alone."""

QUANTIZED = (DType.INT8, DType.UINT8, DType.INT16)


def one_type(
    types: str, prepare: Callable[[Node], Kernel], dtypes: str, when: Callable[[Node], bool] | None = None
) -> Form:
    """The form ``"{T}, int32 -> {T}"`` for every type of ``dtypes`` ("float32|int8"): all {T} have to be the same."""
    inputs, _, outputs = (side.replace(" ", "").split(",") for side in types.partition("->"))
    last = len(inputs) - 1

    def of_one_type(node: Node) -> bool:
        found = {spec.dtype for i, spec in enumerate(node.inputs) if spec is not None and "{T}" in inputs[min(i, last)]}
        found |= {spec.dtype for i, spec in enumerate(node.outputs) if "{T}" in outputs[min(i, len(outputs) - 1)]}
        return len(found) == 1 and (when is None or when(node))

    return Form(
        types.format(T=dtypes),
        prepare,
        of_one_type,
        "of one type" if "|" in dtypes or dtypes == "any" else "",
    )


# --- quantization -------------------------------------------------------------------------------------------------


def params(spec: TensorSpec) -> tuple[float, int]:
    """Scale and zero point as LiteRT's kernels see them: zeros for a tensor that has none or one per channel.

    Source: GetLegacyQuantization (tflite/core/subgraph.cc).
    """
    q = spec.quantization
    if q is None or q.scales.size != 1 or q.zero_points.size != 1 or q.block_size:
        return 0.0, 0
    return float(q.scale), q.zero_point


def equal_quantization(dtypes: str = "any", slots: int | None = 1) -> Constraint:
    """The rule that the first ``slots`` inputs (None: all) and the outputs share scale and zero point."""
    names = dtypes.split("|")

    def test(node: Node) -> str | None:
        specs = [spec for spec in node.inputs[:slots] if spec is not None]
        if not specs or (dtypes != "any" and str(specs[0].dtype) not in names):
            return None
        found = list(dict.fromkeys(params(spec) for spec in (*specs, *node.outputs)))
        return None if len(found) == 1 else " and ".join(f"scale {s:g}, zero point {z}" for s, z in found)

    of = "" if dtypes == "any" else " of " + ", ".join(names)
    return Constraint("equal_quantization", f"inputs and outputs{of} must have the same scale and zero point", test)


def symmetric_int16(slots: int | None = 1) -> Constraint:
    """The rule that int16 tensors have the zero point 0."""

    def test(node: Node) -> str | None:
        specs = [spec for spec in node.inputs[:slots] if spec is not None]
        zeros = {params(spec)[1] for spec in (*specs, *node.outputs) if spec.dtype is DType.INT16} - {0}
        return f"zero point {zeros.pop()}" if zeros else None

    return Constraint("symmetric_int16", "int16 tensors must have the zero point 0", test)


# --- operands that hold shapes and axes ---------------------------------------------------------------------------

Check = Callable[[bool, str, str, object], None]
"""``check(holds, name, expected, found)``: raises unless ``holds``. ``node.expect``, or ``at_run(node)``."""


def at_run(node: Node) -> Check:
    """``node.expect`` for values that a kernel meets: raises DataError."""

    def check(holds: bool, name: str, expected: str, found: object) -> None:
        if not holds:
            node.require(False, f"{expected} as {name}", found)

    return check


def numbers(values: Any) -> list[int]:
    """The elements of an integer array (or None: none) as Python numbers, flat."""
    return [] if values is None else [int(v) for v in np.asarray(values).reshape(-1)]


def known(node: Node, slot: int) -> list[int] | None:
    """The numbers in an operand whose value is known before the run, else None."""
    value = node.input(slot).value
    return None if value is None else numbers(value)


def resolve_axis(check: Check, axis: int, rank: int, name: str = "axis") -> int:
    """The axis in [0, rank) that ``axis`` means, which may count from the end."""
    check(-rank <= axis < rank, name, f"an axis of {rank} dimensions", axis)
    return axis % rank


def require_range(node: Node, indices: Array, size: int) -> None:
    """Raises DataError unless all indices are in [0, size)."""
    if indices.size:
        low, high = int(indices.min()), int(indices.max())
        node.require(low >= 0 and high < size, f"indices in [0, {size})", low if low < 0 else high)


def moved_work(node: Node) -> Work:
    """Work of an op that reads of each operand no more than it writes (gathers, slices)."""
    written = sum(spec.size_bytes for spec in node.outputs)
    return Work(
        macs=0,
        element_ops=sum(spec.n_elements for spec in node.outputs),
        bytes_read=sum(min(spec.size_bytes, written) for spec in node.inputs if spec is not None),
        bytes_written=written,
    )


# --- cases --------------------------------------------------------------------------------------------------------

TESTED = tuple(
    DType.parse(name)
    for name in "float32 int8 uint8 int32 int64 bool int16 uint16 uint32 uint64 float16 float64 complex64".split()
)
"""The types of WORDS that LiteRT's Python interface can pass in and out (bfloat16 and float8 it can't)."""

SHIFTED = Quantization.per_tensor(0.5, 3)
OTHER = Quantization.per_tensor(0.25, 3)


def values(rng: np.random.Generator, dtype: DType, shape: Any) -> Array:
    """Random data of any type that a case may have."""
    shape = tuple(shape)
    if dtype is DType.STRING:
        words = np.empty(shape, object)
        for k, at in enumerate(np.ndindex(shape)):
            # Not all empty: LiteRT's Python interface makes b"\0" of a lone empty string.
            words[at] = bytes(rng.integers(97, 123, int(rng.integers(k == 0, 5))).astype(np.uint8))
        return words
    if dtype is DType.BOOL:
        return booleans(rng, shape)
    if dtype in (DType.INT4, DType.UINT4):
        return np.asarray(rng.integers(-8 if dtype is DType.INT4 else 0, 8, shape), dtype.numpy)
    if dtype.numpy.kind in "iu":
        return integers(rng, dtype, shape)
    x = reals(rng, shape)
    return np.asarray(x + 1j * reals(rng, shape) if dtype.numpy.kind == "c" else x, dtype.numpy)


def tensor(
    rng: np.random.Generator, dtype: DType, shape: Any, q: Quantization | None = None, constant: bool = False
) -> Operand:
    """A data operand of random values."""
    return Operand(values(rng, dtype, shape), q, constant, dtype)


def index(data: Any, dtype: DType = DType.INT32, constant: bool = True) -> Operand:
    """An operand that holds axes, a shape or indices."""
    return Operand(np.asarray(data, dtype.numpy), constant=constant)


def sizes(rng: np.random.Generator, rank: int, low: int = 1, high: int = 5) -> tuple[int, ...]:
    """A random shape."""
    return tuple(int(n) for n in rng.integers(low, high + 1, rank))


def cycle(items: Sequence[Any], i: int) -> Any:
    """The i-th item, starting over at the end."""
    return items[i % len(items)]
