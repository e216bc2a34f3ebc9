"""What an output looks like to a person: class scores, a class map, a picture, boxes, or an array in numbers.

``views_of`` looks at shapes and types only; nothing in a model says for sure what its output means, so every view keeps
the array's summary beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from delegraph.cli import render
from delegraph.cli.labels import Labels
from delegraph.cli.tensors import Port, dequantize, is_quantized, quantization_json
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array

NO_LABELS = Labels("none")
MIN_MAP_SIDE = 8
"""Height and width from which an integer output is taken for a map of classes, and a float one for a picture."""
MAX_CLASSES_OF_A_MAP = 256


@dataclass(frozen=True)
class Output:
    """One output of a run: its port and value."""

    port: Port
    array: Array

    @property
    def title(self) -> str:
        return f"{self.port.name}  {self.port.dtype}{render.shape(self.array.shape)}"


class View(Protocol):
    """How an output (or several, for boxes) is shown. kind: its name in JSON."""

    @property
    def kind(self) -> str: ...
    def to_json(self) -> dict[str, Any]: ...
    def show(self) -> None: ...


@dataclass(frozen=True)
class Classes:
    """Scores of classes, the highest first: (index, label, real score, value as stored)."""

    output: Output
    rows: tuple[tuple[int, str | None, float, float | int], ...]
    n_classes: int
    labels: str
    kind: str = "classes"

    def to_json(self) -> dict[str, Any]:
        names = ("index", "label", "score", "raw")
        return {
            "n_classes": self.n_classes,
            "labels": self.labels,
            "classes": [dict(zip(names, row, strict=True)) for row in self.rows],
        }

    def show(self) -> None:
        render.heading(f"{self.output.title}, {len(self.rows)} highest of {self.n_classes}")
        if self.labels == NO_LABELS.source:
            rows = [(i, render.number(score)) for i, _, score, _ in self.rows]
            render.table(("index", "value"), rows, right=("index", "value"))
            _show_numbers(self.output)
            return
        named = [(i, label, render.number(score)) for i, label, score, _ in self.rows]
        render.table(("class", "label", "score"), named, right=("class", "score"))


@dataclass(frozen=True)
class ClassMap:
    """A class for each pixel. classes: [H, W]; rows: (class, label, pixels), most pixels first."""

    output: Output
    classes: Array
    rows: tuple[tuple[int, str | None, int], ...]
    labels: str
    kind: str = "class_map"

    def to_json(self) -> dict[str, Any]:
        return {
            "height": self.classes.shape[0],
            "width": self.classes.shape[1],
            "labels": self.labels,
            "classes": [
                {"index": i, "label": label, "pixels": n, "share": n / self.classes.size} for i, label, n in self.rows
            ],
        }

    def show(self) -> None:
        height, width = self.classes.shape
        render.heading(f"{self.output.title}, a class for each of {width}x{height} pixels")
        rows = [(i, label, n, f"{100 * n / self.classes.size:.1f} %") for i, label, n in self.rows]
        render.table(("class", "label", "pixels", "share"), rows, right=("class", "pixels", "share"))


@dataclass(frozen=True)
class Picture:
    """A picture. pixels: [H, W] or [H, W, 3] uint8; scaling: how reals became pixels."""

    output: Output
    pixels: Array
    scaling: str
    kind: str = "picture"

    def to_json(self) -> dict[str, Any]:
        height, width = self.pixels.shape[:2]
        return {"height": height, "width": width, "scaling": self.scaling}

    def show(self) -> None:
        height, width = self.pixels.shape[:2]
        render.heading(f"{self.output.title}, a picture of {width}x{height} ({self.scaling})")
        _show_numbers(self.output)


@dataclass(frozen=True)
class Boxes:
    """Detections: (class, label, score, [top, left, bottom, right] as shares of the picture), best first."""

    outputs: tuple[Output, ...]
    rows: tuple[tuple[int, str | None, float, tuple[float, ...]], ...]
    n_found: int
    labels: str
    kind: str = "boxes"

    def to_json(self) -> dict[str, Any]:
        return {
            "n_found": self.n_found,
            "labels": self.labels,
            "boxes": [
                {"index": i, "label": label, "score": score, "box": list(box)} for i, label, score, box in self.rows
            ],
        }

    def show(self) -> None:
        names = ", ".join(output.port.name for output in self.outputs)
        render.heading(f"{names}: {len(self.rows)} best of {self.n_found} boxes")
        numbers = ("score", "top", "left", "bottom", "right")
        rows = [
            (i, label, render.number(score), *(f"{edge:.3f}" for edge in box)) for i, label, score, box in self.rows
        ]
        render.table(("class", "label", *numbers), rows, right=("class", *numbers))


@dataclass(frozen=True)
class Numbers:
    """An array that is none of the others."""

    output: Output
    kind: str = "array"

    def to_json(self) -> dict[str, Any]:
        return {}

    def show(self) -> None:
        render.heading(self.output.title)
        _show_numbers(self.output)


def views_of(outputs: Sequence[Output], labels: Sequence[Labels | None], top: int) -> list[View]:
    """A view of every output; four outputs of a detector make one. labels: beside the outputs."""
    boxes = _boxes(outputs, labels, top)
    if boxes is not None:
        return [boxes]
    return [_view(output, names, top) for output, names in zip(outputs, labels, strict=True)]


def output_json(output: Output) -> dict[str, Any]:
    """What ``--json`` says of every output, whatever its view."""
    return {
        "name": output.port.name,
        "dtype": str(output.port.dtype),
        "shape": list(output.array.shape),
        "quantization": quantization_json(output.port.quantization),
        **_numbers(output),
    }


def _view(output: Output, labels: Labels | None, top: int) -> View:
    names = labels or NO_LABELS
    if _is_scores(output):
        return _classes(output, names, top)
    classes = _class_map(output, names)
    if classes is not None:
        values, counts = np.unique(classes, return_counts=True)
        rows = [(int(v), names.get(int(v)), int(n)) for v, n in zip(values, counts, strict=True)]
        return ClassMap(output, classes, tuple(sorted(rows, key=lambda row: -row[2])), names.source)
    return _picture(output) or Numbers(output)


def _is_scores(output: Output) -> bool:
    shape, dtype = output.array.shape, output.port.dtype
    if not shape or shape[-1] < 2 or output.array.size != shape[-1]:
        return False
    return (dtype.is_float and output.array.dtype.kind == "f") or is_quantized(output.port)


def _classes(output: Output, labels: Labels, top: int) -> Classes:
    raw = output.array.reshape(-1)
    reals = np.asarray(dequantize(raw, output.port), np.float64)
    order = np.argsort(-np.nan_to_num(reals, nan=-np.inf), kind="stable")[:top]
    rows = tuple((int(i), labels.get(int(i)), float(reals[i]), raw[i].item()) for i in order)
    return Classes(output, rows, raw.size, labels.source)


def _class_map(output: Output, labels: Labels) -> Array | None:
    """[H, W] classes: an integer map as it is, scores [1, H, W, C] by the highest; None for anything else."""
    array, port = output.array, output.port
    if not _is_large(array.shape):
        return None
    if port.dtype.is_integer and not is_quantized(port) and port.dtype is not DType.INT16:
        if len(array.shape) == 4 and array.shape[3] == 1:
            array = array[:, :, :, 0]
        if port.dtype in (DType.UINT8, DType.INT8) and not labels.names and array.max() > 64:
            return None  # more likely a grey picture
        return array.reshape(array.shape[-2:]) if len(array.shape) in (2, 3) and _is_one(array.shape[:-2]) else None
    n = array.shape[-1]
    if len(array.shape) == 4 and 2 <= n <= MAX_CLASSES_OF_A_MAP and (n not in (3, 4) or len(labels) == n):
        return array[0].argmax(axis=-1) if array.dtype.kind in "fiu" else None
    return None


def _is_large(shape: tuple[int, ...]) -> bool:
    """Whether a picture could have this shape: [H, W], [1, H, W] or [1, H, W, C]."""
    if len(shape) == 4:
        return shape[0] == 1 and min(shape[1:3]) >= MIN_MAP_SIDE * 2
    return len(shape) in (2, 3) and min(shape[-2:]) >= MIN_MAP_SIDE and _is_one(shape[:-2])


def _is_one(shape: tuple[int, ...]) -> bool:
    return all(n == 1 for n in shape)


def _picture(output: Output) -> Picture | None:
    array = output.array
    if len(array.shape) != 4 or not _is_large(array.shape) or array.shape[3] not in (1, 3):
        return None
    if not (output.port.dtype.is_float or output.port.dtype in (DType.UINT8, DType.INT8)):
        return None
    pixels, scaling = _to_pixels(np.asarray(dequantize(array[0], output.port), np.float64))
    return Picture(output, pixels[:, :, 0] if pixels.shape[2] == 1 else pixels, scaling)


def _to_pixels(reals: Array) -> tuple[Array, str]:
    """Reals as 0..255, by the range they lie in, with that range in words."""
    finite = np.nan_to_num(reals)
    low, high = float(finite.min()), float(finite.max())
    a, b, name = low, max(high, low + 1e-9), f"{low:.4g}..{high:.4g}"
    for known in ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)):
        if known[0] - 0.1 <= low and high <= known[1] + 0.1:
            (a, b), name = known, f"{known[0]:.0f}..{known[1]:.0f}"
            break
    scaled = (finite - a) * (255 / (b - a))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8), f"values {name} as 0..255"


def _boxes(outputs: Sequence[Output], labels: Sequence[Labels | None], top: int) -> Boxes | None:
    """The detections in four outputs, in the order of TFLite_Detection_PostProcess or of newer exports of it."""
    if len(outputs) != 4 or any(output.array.dtype.kind != "f" for output in outputs):
        return None
    for boxes, classes, scores, count in ((0, 1, 2, 3), (1, 3, 0, 2)):
        shapes = [outputs[i].array.shape for i in (boxes, classes, scores)]
        n = shapes[0][1] if len(shapes[0]) == 3 else -1
        if shapes == [(1, n, 4), (1, n), (1, n)] and outputs[count].array.size == 1:
            break
    else:
        return None
    names = labels[classes] or next(filter(None, labels), None) or NO_LABELS
    n_found = outputs[count].array.item()
    n_found = min(max(int(n_found), 0), n) if np.isfinite(n_found) else 0
    reals, kinds, places = (np.nan_to_num(outputs[i].array[0]) for i in (scores, classes, boxes))
    order = np.argsort(-reals[:n_found], kind="stable")[:top]
    rows = tuple(
        (int(kinds[i]), names.get(int(kinds[i])), float(reals[i]), tuple(map(float, places[i]))) for i in order
    )
    return Boxes(tuple(outputs), rows, n_found, names.source)


def _numbers(output: Output) -> dict[str, Any]:
    """Least, greatest and mean of the reals; the first strings of a string output."""
    array = output.array
    if array.dtype.kind == "O":
        return {"strings": [bytes(s).decode(errors="replace") for s in array.reshape(-1)[:100]]}
    if array.dtype.kind not in "fiub" or not array.size:
        return {}
    reals = np.asarray(dequantize(array, output.port), np.float64)
    finite = reals[np.isfinite(reals)]
    found: dict[str, Any] = {"n_not_finite": int(reals.size - finite.size)}
    if finite.size:
        found |= {"min": float(finite.min()), "max": float(finite.max()), "mean": float(finite.mean())}
    return found


def _show_numbers(output: Output) -> None:
    numbers = _numbers(output)
    if "strings" in numbers:
        for text in numbers["strings"]:
            render.line(f"  {text}")
        return
    if output.array.size and output.array.size <= 8 and output.array.dtype.kind in "fiub":
        values = np.asarray(dequantize(output.array, output.port)).reshape(-1)
        render.line("  " + ", ".join(render.number(float(v)) for v in values))
        return
    parts = [f"{name} {render.number(numbers[name])}" for name in ("min", "max", "mean") if name in numbers]
    if numbers.get("n_not_finite"):
        parts.append(f"{numbers['n_not_finite']} values not finite")
    render.line("  " + (", ".join(parts) or "no values"))
