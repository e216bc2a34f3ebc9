"""SLICE, STRIDED_SLICE, DYNAMIC_UPDATE_SLICE: parts of a tensor.

Source: tflite/kernels/{slice,strided_slice,dynamic_update_slice}.cc, kernels/internal/reference/strided_slice.h.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from delegraph.core.errors import InvalidModel
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Shape
from delegraph.core.model.table import Table
from delegraph.core.ops import bounds
from delegraph.core.ops.movement import (
    TESTED,
    WORDS,
    Check,
    at_run,
    index,
    known,
    moved_work,
    numbers,
    one_type,
    sizes,
    tensor,
)
from delegraph.core.ops.opdef import Case, Kernel, Node, OpDef, Operand, Result

# --- SLICE --------------------------------------------------------------------------------------------------------


def _slices(check: Check, shape: Shape, begin: Sequence[int], size: Sequence[int]) -> tuple[slice, ...]:
    """Size -1 means all that is left. Source: CalculateOutputShapeVector (slice.cc)."""
    check(
        len(begin) == len(size) == len(shape),
        "begin and size",
        f"{len(shape)} elements",
        (list(begin), list(size)),
    )
    ends = [n if s == -1 else b + s for n, b, s in zip(shape, begin, size, strict=True)]
    check(
        all(0 <= b <= e <= n and s >= -1 for n, b, e, s in zip(shape, begin, ends, size, strict=True)),
        "begin and size",
        f"a part of {shape}",
        (list(begin), list(size)),
    )
    return tuple(slice(b, e) for b, e in zip(begin, ends, strict=True))


def _slice_shapes(node: Node) -> Sequence[Shape | None]:
    shape, begin, size = node.input(0).shape, known(node, 1), known(node, 2)
    for slot in (1, 2):
        found = node.input(slot).shape
        node.expect(found == (len(shape),), f"inputs[{slot}]", f"a vector of {len(shape)} elements", found)
    if size is not None and begin is not None:
        return [tuple(s.stop - s.start for s in _slices(node.expect, shape, begin, size))]
    if size is not None and min(size, default=0) >= 0:  # the begin may change from run to run
        return [tuple(size)]
    return [None]


def _slice(node: Node) -> Kernel:
    check = at_run(node)

    def run(x: Array, begin: Array, size: Array) -> Sequence[Array]:
        return (x[_slices(check, x.shape, numbers(begin), numbers(size))],)

    return run


def _slice_cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype in (*TESTED, DType.STRING, DType.INT4):
        for i in range(3):
            shape = sizes(rng, int(rng.integers(0 if i == 0 and dtype is not DType.STRING else 1, 7)), 1, 5)
            begin = [int(rng.integers(0, n)) for n in shape]
            size = [
                int(rng.choice([-1, int(rng.integers(i > 0, n - b + 1))])) for n, b in zip(shape, begin, strict=True)
            ]
            kind = (DType.INT32, DType.INT64)[i % 2]
            operands = (tensor(rng, dtype, shape), index(begin, kind, i < 2), index(size, kind, i != 1))
            yield Case(f"{dtype}_{i}", operands, (Result(dtype),))
    x = tensor(rng, DType.FLOAT32, (3, 4))
    table = [
        ([0, 0], [3, 4]),
        ([3, 4], [-1, 0]),
        ([1, 2], [3, 1]),
        ([0, 5], [1, -1]),
        ([0, 0], [-2, 1]),
        ([1, 1], [2, 3]),
    ]
    for i, (begin, size) in enumerate(table):
        for constant in (True,) if i == 1 else (True, False):
            operands = (x, index(begin, constant=constant), index(size, constant=constant))
            yield Case(f"range_{i}_{constant}", operands, (Result(DType.FLOAT32),))
    operands = (x, index([0, 0]), index([[1, 1]]))
    yield Case("matrix", operands, (Result(DType.FLOAT32),))


# --- STRIDED_SLICE ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis of the input with the new ones among them: ``start:stop:step``, or one element if ``shrink``."""

    size: int
    start: int
    stop: int
    step: int
    shrink: bool = False

    @property
    def length(self) -> int:
        distance = self.stop - self.start
        return max(0, -(-distance // self.step))

    @property
    def key(self) -> Any:
        """What indexes it in NumPy, where a stop of -1 would mean the last element."""
        if self.shrink:
            return self.start
        if self.length == 0:
            return slice(0, 0)
        return slice(self.start, None if self.stop < 0 else self.stop, self.step)


def _bit(mask: int, i: int) -> bool:
    return bool(mask >> i & 1)


def _kinds(check: Check, options: Any, rank: int, count: int) -> list[int | str]:
    """What each axis is: "all", "new", or the index of its entry in begin, end and strides.

    An ellipsis always takes one axis at least. Source: BuildStridedSliceParams (strided_slice.cc).
    """
    ellipsis, new_axis = options.ellipsis_mask, options.new_axis_mask
    check(
        ellipsis & (ellipsis - 1) == 0 and 0 <= ellipsis < 1 << count,
        "ellipsis_mask",
        f"one bit of {count}",
        ellipsis,
    )
    check(0 <= new_axis < 1 << count, "new_axis_mask", f"bits of {count}", new_axis)
    added = sum(_bit(new_axis, i) and not _bit(ellipsis, i) for i in range(count))
    total = rank + added
    kinds: list[int | str] = []
    expanded = 0
    while len(kinds) < total:
        i = len(kinds)
        entry = i - expanded
        if not expanded and _bit(ellipsis, i) and "all" not in kinds:
            n = max(1, min(1 + total - count, total - i))
            kinds += ["all"] * n
            expanded = n - 1
        elif _bit(new_axis, entry):
            kinds.append("new")
        else:
            kinds.append("all" if entry >= count else entry)
    check(
        kinds.count("new") == added,
        "new_axis_mask",
        f"{added} axes for {rank} dimensions",
        list(map(str, kinds)),
    )
    return kinds


def _strided_axes(
    check: Check,
    options: Any,
    shape: Shape,
    begin: Sequence[int] | None,
    end: Sequence[int] | None,
    strides: Sequence[int],
) -> list[_Axis | None]:
    """The axes, new ones included; None where ``begin`` or ``end`` is needed but not known.

    Source: StartForAxis, EndForAxis (reference/strided_slice.h), ResizeOutputTensor (strided_slice.cc).
    """
    count = len(strides)
    for name, operand in (("begin", begin), ("end", end)):
        if operand is not None:
            check(len(operand) == count, name, f"{count} elements, as in strides", len(operand))
    axes: list[_Axis | None] = []
    sizes = iter(shape)
    for i, kind in enumerate(_kinds(check, options, len(shape), count)):
        if isinstance(kind, str):
            size = 1 if kind == "new" else next(sizes)
            axes.append(_Axis(size, 0, size, 1))
        else:
            step = strides[kind]
            check(step != 0, "strides", "non-zero strides", step)
            axes.append(_entry_axis(check, options, next(sizes), kind, begin, end, step))
        if options.offset and end is not None:
            # LiteRT takes the output's size from the i-th end, whichever axis that entry is for.
            axis = axes[-1]
            fits = axis is None or axis.shrink or (i < count and -(-end[i] // axis.step) == axis.length)
            check(fits, "end", f"an offset for axis {i} that stays inside {shape}", list(end))
    return axes


def _entry_axis(
    check: Check,
    options: Any,
    size: int,
    entry: int,
    begin: Sequence[int] | None,
    end: Sequence[int] | None,
    step: int,
) -> _Axis | None:
    low, high = (0, size) if step > 0 else (-1, size - 1)

    def clamp(at: int) -> int:
        return min(max(at + size if at < 0 else at, low), high)

    if _bit(options.begin_mask, entry):
        start = 0 if step > 0 else size - 1
    elif begin is None:
        return _Axis(size, 0, 1, 1, True) if _bit(options.shrink_axis_mask, entry) else None
    else:
        start = clamp(begin[entry])
    if _bit(options.shrink_axis_mask, entry):
        check(step > 0 and 0 <= start < size, "begin", f"an index within {size} for axis {entry}", start)
        return _Axis(size, start, start + 1, step, True)
    if _bit(options.end_mask, entry):
        stop = size if step > 0 else -1
    elif end is None:
        return None
    else:
        stop = clamp(end[entry] + start if options.offset else end[entry])
    return _Axis(size, start, stop, step)


def _strided_slice_shapes(node: Node) -> Sequence[Shape | None]:
    for slot in (1, 2, 3):
        found = node.input(slot).shape
        node.expect(
            len(found) == 1 and found == node.input(3).shape and found[0] <= 31,
            f"inputs[{slot}]",
            "a vector of up to 31 elements, as long as strides",
            found,
        )
    strides = known(node, 3)
    if strides is None:
        return [None]
    axes = _strided_axes(node.expect, node.options, node.input(0).shape, known(node, 1), known(node, 2), strides)
    # An index that is not known yet does not matter to the shape: its axis goes.
    if any(axis is None for axis in axes):
        return [None]
    return [tuple(axis.length for axis in axes if axis is not None and not axis.shrink)]


def _strided_slice(node: Node) -> Kernel:
    check, options = at_run(node), node.options

    def run(x: Array, begin: Array, end: Array, strides: Array) -> Sequence[Array]:
        found = _strided_axes(check, options, x.shape, numbers(begin), numbers(end), numbers(strides))
        axes = [axis for axis in found if axis is not None]
        part = x.reshape([axis.size for axis in axes])[tuple(axis.key for axis in axes)]
        return (np.asarray(part, x.dtype),) if x.dtype != object else (_strings(part),)

    return run


def _strings(part: Any) -> Array:
    """A string picked out of an object array is no array any more."""
    if isinstance(part, np.ndarray):
        return part
    scalar = np.empty((), object)
    scalar[()] = part
    return scalar


def _strided_slice_cases(rng: np.random.Generator) -> Iterator[Case]:
    dtypes = (*TESTED, DType.STRING)
    for i in range(45):
        dtype = dtypes[i % len(dtypes)] if i < 30 else DType.INT32
        rank = int(rng.integers(1, 6))
        shape = sizes(rng, rank, 1, 5)
        count = int(rng.integers(1, rank + 3))
        masks = {
            "begin_mask": int(rng.integers(0, 1 << count)) & int(rng.integers(0, 1 << count)),
            "end_mask": int(rng.integers(0, 1 << count)) & int(rng.integers(0, 1 << count)),
            "ellipsis_mask": 1 << int(rng.integers(0, count)) if rng.random() < 0.4 else 0,
            "new_axis_mask": (1 << int(rng.integers(0, count))) * int(rng.random() < 0.4),
            "shrink_axis_mask": (1 << int(rng.integers(0, count))) * int(rng.random() < 0.4),
        }
        begin, end = rng.integers(-6, 7, count), rng.integers(-6, 7, count)
        strides = rng.choice([1, 1, 1, 2, 3, -1, -2], count)
        constant = rng.random() < 0.6
        yield from _strided(f"random_{i}", tensor(rng, dtype, shape), begin, end, strides, masks, constant)
    x = tensor(rng, DType.INT32, (3, 4, 5))
    big = 2**31 - 1
    table: list[tuple[Any, Any, Any, dict[str, Any]]] = [
        ([0, 0, 0], [3, 4, 5], [1, 1, 1], {}),
        ([-1, -1, -1], [-4, -5, -6], [-1, -1, -1], {}),
        ([2, 3, 4], [-big, -big, -big], [-1, -2, -3], {}),
        ([0, 0, 0], [big, big, big], [1, 2, big], {}),
        ([1, 1], [0, 2], [1, 1], {}),
        ([0, 0], [1, 1], [0, 1], {}),
        ([2], [3], [1], {"shrink_axis_mask": 1}),
        ([-1, 1], [0, 2], [1, 1], {"shrink_axis_mask": 3}),
        ([0, 1, 2], [1, 2, 3], [1, 1, 1], {"shrink_axis_mask": 7}),
        ([1, 0, 0], [2, 2, 5], [1, 1, 1], {"shrink_axis_mask": 1, "begin_mask": 2, "end_mask": 4}),
        ([0, 0], [0, 0], [1, 1], {"ellipsis_mask": 1, "new_axis_mask": 2}),
        ([0, 0], [0, 0], [1, 1], {"ellipsis_mask": 1, "new_axis_mask": 1}),
        ([0, 1], [0, 3], [1, 1], {"ellipsis_mask": 1}),
        ([1, 0, 1], [3, 0, 3], [1, 1, 1], {"ellipsis_mask": 2, "shrink_axis_mask": 4}),
        ([0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1], {"new_axis_mask": 5}),
        ([0, 1, 2, 3], [9, 9, 9, 9], [1, 1, 1, 1], {"ellipsis_mask": 1}),
        ([0], [0], [1], {"new_axis_mask": 1}),
        ([1, 1, 0], [2, 2, 3], [1, 1, 1], {"offset": True}),
        ([-2, 0, 1], [1, 4, 2], [1, 2, 2], {"offset": True}),
        ([1, 1, 0], [1, 2, 3], [1, 1, 1], {"offset": True, "shrink_axis_mask": 1}),
    ]
    for i, (b, e, s, masks) in enumerate(table):
        for constant in (True, False):
            yield from _strided(f"table_{i}_{constant}", x, b, e, s, masks, constant)
    scalar = tensor(rng, DType.FLOAT32, ())
    yield from _strided("scalar", scalar, [0], [1], [1], {"new_axis_mask": 1}, True)
    yield from _strided("empty", tensor(rng, DType.FLOAT32, (0, 3)), [0], [1], [1], {}, True)
    # Versions above 4 are in the default resolver only (the kernel is the same).
    operands = (x, index([1, 1, 0]), index([2, 2, 3]), index([1, 1, 1]))
    for version in (4, 5, 8):
        oracle = "reference" if version == 4 else "builtin"
        yield Case(f"version_{version}", operands, (Result(DType.INT32),), {"offset": version == 8}, version, oracle)
    operands = (tensor(rng, DType.INT32, (2,) * 8), index([1] * 8), index([2] * 8), index([1] * 8))
    yield Case("rank_8", operands, (Result(DType.INT32),), {"shrink_axis_mask": 7})


def _strided(
    name: str, x: Operand, begin: Any, end: Any, strides: Any, masks: dict[str, Any], constant: bool
) -> Iterator[Case]:
    """The case, unless LiteRT would leave memory as it finds it or its Python interface can't read the result."""
    options = Table("StridedSliceOptions", **masks)

    def check(holds: bool, what: str, expected: str, found: object) -> None:
        if not holds:
            raise InvalidModel(what, expected, str(found))

    try:
        axes = _strided_axes(check, options, x.data.shape, numbers(begin), numbers(end), numbers(strides))
        if not constant and any(axis is not None and not axis.shrink and axis.length == 0 for axis in axes):
            return
    except InvalidModel as exc:
        if not exc.place.startswith("strides"):
            return
    # With an offset, LiteRT crashes on an end that is not constant.
    fixed = constant or options.offset
    operands = (x, index(begin, constant=constant), index(end, constant=fixed), index(strides))
    assert x.dtype is not None
    yield Case(name, operands, (Result(x.dtype),), masks)


# --- DYNAMIC_UPDATE_SLICE -----------------------------------------------------------------------------------------


def _update_shapes(node: Node) -> Sequence[Shape | None]:
    shape, update, start = (node.input(i).shape for i in range(3))
    node.expect(len(shape) <= 8, "inputs[0]", "up to 8 dimensions", shape)
    node.expect(
        len(update) == len(shape) and all(n <= m for n, m in zip(update, shape, strict=True)),
        "inputs[1]",
        f"a shape that fits in {shape}",
        update,
    )
    node.expect(start == (len(shape),), "inputs[2]", f"a vector of {len(shape)} elements", start)
    return [shape]


def _update(node: Node) -> Kernel:
    def run(x: Array, update: Array, start: Array) -> Sequence[Array]:
        if update.size == x.size:
            return (update,)
        # Starts that lead outside are moved inside.
        at = [max(0, min(s, n - m)) for s, n, m in zip(numbers(start), x.shape, update.shape, strict=True)]
        out = x.copy()
        out[tuple(slice(a, a + m) for a, m in zip(at, update.shape, strict=True))] = update
        return (out,)

    return run


def _update_cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype in (*TESTED, DType.INT4):
        for i in range(3):
            shape = sizes(rng, int(rng.integers(1, 6)), 1, 4)
            update = [int(rng.integers(0 if i == 0 else 1, n + 1)) for n in shape]
            start: Any = rng.integers(-2, 6, len(shape))
            kind = (DType.INT32, DType.INT64)[i % 2]
            operands = (
                tensor(rng, dtype, shape),
                tensor(rng, dtype, update, None, i == 2),
                index(start, kind, i == 2),
            )
            yield Case(f"{dtype}_{i}", operands, (Result(dtype),))
    x = tensor(rng, DType.FLOAT32, (3, 4))
    for i, (shape, start) in enumerate(
        [((3, 4), [9, -9]), ((4, 1), [0, 0]), ((1,), [0, 0]), ((1, 1), [0]), ((2, 2), [1, 2])]
    ):
        operands = (x, tensor(rng, DType.FLOAT32, shape), index(start, constant=False))
        yield Case(f"shape_{i}", operands, (Result(DType.FLOAT32),))
    big = index([2**40, -(2**40)], DType.INT64)
    yield Case("far", (x, tensor(rng, DType.FLOAT32, (2, 2)), big), (Result(DType.FLOAT32),))
    nine = tensor(rng, DType.FLOAT32, (1,) * 8 + (2,))
    operands = (nine, tensor(rng, DType.FLOAT32, (1,) * 9), index([0] * 9))
    yield Case("rank_9", operands, (Result(DType.FLOAT32),))


# --- declarations -------------------------------------------------------------------------------------------------

SLICE = OpDef(
    name="SLICE",
    inputs=("input", "begin", "size"),
    outputs=("output",),
    options="SliceOptions",
    versions=(1, 8),
    shapes=_slice_shapes,
    work=moved_work,
    forms=(
        one_type("{T}, int32, int32 -> {T}", _slice, f"{WORDS}|string|int4"),
        one_type("{T}, int64, int64 -> {T}", _slice, f"{WORDS}|string|int4"),
    ),
    bound=bounds.exact,
    cases=_slice_cases,
)

STRIDED_SLICE = OpDef(
    name="STRIDED_SLICE",
    inputs=("input", "begin", "end", "strides"),
    outputs=("output",),
    options="StridedSliceOptions",
    versions=(1, 8),
    shapes=_strided_slice_shapes,
    work=moved_work,
    forms=(one_type("{T}, int32, int32, int32 -> {T}", _strided_slice, f"{WORDS}|string"),),
    bound=bounds.exact,
    cases=_strided_slice_cases,
)

DYNAMIC_UPDATE_SLICE = OpDef(
    name="DYNAMIC_UPDATE_SLICE",
    inputs=("operand", "update", "start_indices"),
    outputs=("output",),
    options="DynamicUpdateSliceOptions",
    versions=(1, 6),
    shapes=_update_shapes,
    forms=(one_type("{T}, {T}, int32|int64 -> {T}", _update, f"{WORDS}|int4"),),
    bound=bounds.exact,
    cases=_update_cases,
)

OPS = (SLICE, STRIDED_SLICE, DYNAMIC_UPDATE_SLICE)
