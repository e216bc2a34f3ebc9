"""NON_MAX_SUPPRESSION_V4 and NON_MAX_SUPPRESSION_V5 (soft, with a sigma).

Source: tflite/kernels/non_max_suppression.cc, kernels/internal/reference/non_max_suppression.h. boxes: [n, 4] as
y1, x1, y2, x2 (any two opposite corners); scores: [n]. The outputs have max_output_size elements, filled up with 0.

Two habits of the reference show in its results. A selected box returns to the queue, where it normally falls to its
own overlap of 1; a box without area overlaps nothing, not even itself, and is selected again and again. And equal
scores leave the queue in the order of a binary heap (``_Heap``), which is followed to the letter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Shape
from delegraph.core.ops import bounds
from delegraph.core.ops.cases import reals
from delegraph.core.ops.opdef import Case, Form, Kernel, Node, OpDef, Operand, Result, Work

# --- shapes and work ----------------------------------------------------------------------------------------------


def _shapes(node: Node) -> Sequence[Shape | None]:
    boxes, scores, limit = node.input(0).shape, node.input(1).shape, node.input(2)
    node.expect(len(boxes) == 2 and boxes[1] == 4, "inputs[0]", "boxes [n, 4]", boxes)
    node.expect(scores == boxes[:1], "inputs[1]", f"{boxes[0]} scores", scores)
    for slot in range(2, len(node.inputs)):
        node.expect(node.input(slot).shape == (), f"inputs[{slot}]", "a scalar", node.input(slot).shape)
    node.expect(limit.dtype.is_integer, "inputs[2]", "an integer", limit.dtype)
    size: Shape | None = None
    if limit.value is not None:
        node.expect(int(limit.value) >= 0, "inputs[2]", "at least 0", int(limit.value))
        size = (int(limit.value),)
    return [size] * (len(node.outputs) - 1) + [()]


def _work(node: Node) -> Work:
    """Each selected box is compared with every candidate, about 16 operations a pair."""
    boxes, scores, indices = node.input(0), node.input(1), node.outputs[0]
    pairs = min(indices.n_elements, scores.n_elements) * scores.n_elements
    written = sum(spec.size_bytes for spec in node.outputs)
    return Work(0, 16 * pairs, boxes.size_bytes + scores.size_bytes, written)


# --- overlaps -----------------------------------------------------------------------------------------------------


class _Boxes:
    """Boxes as sorted corners, and the intersection over union of one with all of a range.

    Source: ComputeIntersectionOverUnion.
    """

    def __init__(self, boxes: Array) -> None:
        y1, x1, y2, x2 = np.ascontiguousarray(boxes.T)
        self.top, self.bottom = np.minimum(y1, y2), np.maximum(y1, y2)
        self.left, self.right = np.minimum(x1, x2), np.maximum(x1, x2)
        self.area = (self.bottom - self.top) * (self.right - self.left)

    def overlap(self, i: int, start: int = 0) -> Array:
        """float32 [n - start]: of box ``i`` with the boxes from ``start`` on."""
        zero = np.float32(0)
        height = np.minimum(self.bottom[start:], self.bottom[i]) - np.maximum(self.top[start:], self.top[i])
        width = np.minimum(self.right[start:], self.right[i]) - np.maximum(self.left[start:], self.left[i])
        area = self.area[start:]
        shared = np.maximum(height, zero) * np.maximum(width, zero)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = shared / (area + self.area[i] - shared)
        return np.where((area <= 0) | (self.area[i] <= 0), zero, ratio)


# --- hard suppression ---------------------------------------------------------------------------------------------


def _select(boxes: Array, scores: Array, limit: int, threshold: np.float32) -> list[int]:
    """Indices of the boxes that remain, best first. scores: those of all boxes, above the score threshold."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    if np.any(ranked[1:] == ranked[:-1]):
        return _select_by_heap(boxes, scores, limit, threshold)
    geometry = _Boxes(boxes[order])
    alive = np.ones(order.size, np.bool_)
    selected: list[int] = []
    at = 0
    while len(selected) < limit:
        step = int(np.argmax(alive[at:]))
        if not alive[at + step]:
            break
        at += step
        overlaps = geometry.overlap(at, at) >= threshold
        # A box that does not suppress itself comes up again until there are enough.
        selected += [int(order[at])] if overlaps[0] else [int(order[at])] * (limit - len(selected))
        alive[at:] &= ~overlaps
        if at + 1 == order.size:
            break
    return selected


def _select_by_heap(boxes: Array, scores: Array, limit: int, threshold: np.float32) -> list[int]:
    geometry = _Boxes(boxes)
    suppressed = np.zeros(scores.size, np.bool_)
    heap = _Heap()
    for i, score in enumerate(scores.tolist()):
        heap.push((score, i))
    selected: list[int] = []
    while heap.items and len(selected) < limit:
        entry = heap.pop()
        if suppressed[entry[1]]:
            continue
        selected.append(entry[1])
        suppressed |= geometry.overlap(entry[1]) >= threshold
        heap.push(entry)
    return selected


class _Heap:
    """A binary max-heap of (score, ...) that moves its items as ``std::priority_queue`` of libstdc++ does."""

    def __init__(self) -> None:
        self.items: list[tuple[Any, ...]] = []

    def push(self, item: tuple[Any, ...]) -> None:
        self.items.append(item)
        self._rise(len(self.items) - 1, item)

    def pop(self) -> tuple[Any, ...]:
        """Takes the top out: the hole sinks to a leaf along the greater children, then the last item rises in it."""
        items = self.items
        top, last = items[0], items.pop()
        n = len(items)
        if n:
            hole, child = 0, 2
            while child < n:
                if items[child][0] < items[child - 1][0]:
                    child -= 1
                items[hole] = items[child]
                hole, child = child, 2 * child + 2
            if child == n:
                items[hole] = items[child - 1]
                hole = child - 1
            self._rise(hole, last)
        return top

    def _rise(self, hole: int, item: tuple[Any, ...]) -> None:
        items = self.items
        while hole > 0:
            parent = (hole - 1) // 2
            if not items[parent][0] < item[0]:
                break
            items[hole] = items[parent]
            hole = parent
        items[hole] = item


# --- soft suppression ---------------------------------------------------------------------------------------------


def _select_softly(
    boxes: Array, scores: Array, limit: int, threshold: np.float32, least: np.float32, sigma: np.float32
) -> tuple[list[int], list[Any]]:
    """Indices and lowered scores: each selected box multiplies those it overlaps by exp(-iou² / 2 sigma).

    A candidate that meets boxes selected since it was last looked at goes back into the queue with its new score.
    """
    geometry = _Boxes(boxes)
    scale = np.float32(-0.5 / np.float64(sigma))
    heap = _Heap()
    for i, score in enumerate(scores):
        heap.push((score, i, 0))
    selected: list[int] = []
    final: list[Any] = []
    overlaps: list[Array] = []
    factors: list[Array] = []
    while heap.items and len(selected) < limit:
        score, i, seen = heap.pop()
        lowered, dropped = score, False
        for j in range(len(selected) - 1, seen - 1, -1):
            if overlaps[j][i] >= threshold:
                dropped = True
                break
            lowered = lowered * factors[j][i]
            if lowered <= least:
                break
        if dropped:
            continue
        n_seen = len(selected)
        if lowered == score:
            selected.append(i)
            final.append(lowered)
            iou = geometry.overlap(i)
            overlaps.append(iou)
            # exp in double and rounded once is what the C library's float exp gives, but for rare last bits.
            factors.append(np.exp((scale * iou * iou).astype(np.float64)).astype(np.float32))
        if lowered > least:
            heap.push((lowered, i, n_seen))
    return selected, final


# --- kernels ------------------------------------------------------------------------------------------------------


def _padded(values: Sequence[Any] | Array, size: int, dtype: Any) -> Array:
    out = np.zeros(size, dtype)
    out[: len(values)] = values
    return out


def _nms(node: Node) -> Kernel:
    def run(
        boxes: Array, scores: Array, limit: Array, threshold: Array, least: Array, sigma: Array | None = None
    ) -> Sequence[Array]:
        size = int(limit)
        node.require(size >= 0, "a max_output_size of at least 0", size)
        node.require(sigma is None or not sigma < 0, "a sigma of at least 0", sigma)
        candidates = np.flatnonzero(scores > least)
        inside, values = boxes[candidates], scores[candidates]
        most, overlap = min(size, candidates.size), np.float32(threshold)
        if sigma is not None and sigma > 0:
            found, final = _select_softly(inside, values, most, overlap, np.float32(least), np.float32(sigma))
        else:
            found = _select(inside, values, most, overlap) if most else []
            final = values[found].tolist()
        indices = _padded(candidates[found], size, np.int32)
        count = np.array(len(found), np.int32)
        if sigma is None:
            return indices, count
        return indices, _padded(final, size, np.float32), count

    return run


# --- cases --------------------------------------------------------------------------------------------------------


def _boxes(rng: np.random.Generator, n: int, clusters: int) -> Array:
    """Boxes that overlap in groups; corners in any order, some without area."""
    centres = rng.uniform(0, 10, (clusters, 2))[rng.integers(0, clusters, n)]
    sizes = rng.uniform(0.5, 3, (n, 2))
    sizes[rng.random(n) < 0.05] = 0
    low = centres + rng.normal(0, 0.4, (n, 2))
    corners = np.stack([low, low + sizes], 1)
    flip = rng.random(n) < 0.3
    corners[flip] = corners[flip, ::-1]
    return corners.reshape(n, 4).astype(np.float32)


def _cases(rng: np.random.Generator, soft: bool) -> Iterator[Case]:
    def scalar(value: Any, dtype: Any, constant: bool = True) -> Operand:
        return Operand(np.array(value, dtype), constant=constant)

    results = (Result(DType.INT32), Result(DType.FLOAT32), Result(DType.INT32))
    outputs = results if soft else (results[0], results[2])
    for i in range(40):
        n = int(rng.integers(1, 60))
        scores = reals(rng, (n,), 0, 1)
        if i % 3 == 1:
            scores = np.rint(scores * 8).astype(np.float32) / np.float32(8)  # many ties
        if i % 3 == 2:
            scores = np.full(n, 0.5, np.float32)
        limit = int(rng.integers(1, 30)) if i % 8 else 0
        constant = bool(rng.integers(2)) or limit == 0
        inputs = [
            Operand(_boxes(rng, n, int(rng.integers(1, 8)))),
            Operand(scores),
            scalar(limit, np.int32, constant),
            scalar((0.5, 0.0, 1.0, 0.3, 1.5)[i % 5 if i % 7 == 0 else 0], np.float32, bool(i % 2)),
            scalar((0.3, 0.0, -1.0, 2.0, -np.inf)[int(rng.integers(5))], np.float32, bool(i % 2)),
        ]
        if soft:
            inputs.append(scalar((0.0, 0.5, 0.1, 2.0)[int(rng.integers(4))], np.float32, bool(i % 2)))
        yield Case(f"{i}_of_{n}_at_most_{limit}", tuple(inputs), outputs)
    three, scored = Operand(_boxes(rng, 3, 1)), Operand(np.array([0.5, np.nan, 0.7], np.float32))
    rest = [scalar(0.5, np.float32)] * (3 if soft else 2)
    yield Case("nan_score", (three, scored, scalar(3, np.int32), *rest), outputs)
    yield Case("negative_limit", (three, scored, scalar(-1, np.int32), *rest), outputs)
    yield Case("limit_with_dimension", (three, scored, scalar([3], np.int32), *rest), outputs)
    none = Operand(np.zeros((0, 4), np.float32)), Operand(np.zeros(0, np.float32))
    yield Case("no_boxes", (*none, scalar(3, np.int32), *rest), outputs)
    if soft:
        bad = [scalar(0.5, np.float32)] * 2 + [scalar(-1, np.float32)]
        yield Case("negative_sigma", (three, scored, scalar(3, np.int32), *bad), outputs)


# --- declarations -------------------------------------------------------------------------------------------------

NON_MAX_SUPPRESSION_V4 = OpDef(
    name="NON_MAX_SUPPRESSION_V4",
    inputs=("boxes", "scores", "max_output_size", "iou_threshold", "score_threshold"),
    outputs=("selected_indices", "n_selected"),
    options="NonMaxSuppressionV4Options",
    shapes=_shapes,
    work=_work,
    forms=(Form("float32, float32, int32, float32, float32 -> int32, int32", _nms),),
    cases=lambda rng: _cases(rng, soft=False),
)

NON_MAX_SUPPRESSION_V5 = OpDef(
    name="NON_MAX_SUPPRESSION_V5",
    inputs=("boxes", "scores", "max_output_size", "iou_threshold", "score_threshold", "sigma"),
    outputs=("selected_indices", "selected_scores", "n_selected"),
    options="NonMaxSuppressionV5Options",
    shapes=_shapes,
    work=_work,
    forms=(Form("float32, float32, int32, float32, float32, float32 -> int32, float32, int32", _nms),),
    bound=bounds.ulps(8),
    cases=lambda rng: _cases(rng, soft=True),
)

OPS = (NON_MAX_SUPPRESSION_V4, NON_MAX_SUPPRESSION_V5)
