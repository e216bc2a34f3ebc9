"""``--output FILE``: the outputs of a run as npy, npz, json, a picture or a sound."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from delegraph.cli import render, sounds
from delegraph.cli.tensors import dequantize
from delegraph.cli.views import ClassMap, Output, Picture, View
from delegraph.core.errors import InvalidArgument
from delegraph.core.graph.graph import Array

PICTURES = (".png", ".bmp")
SUFFIXES = (".npy", ".npz", ".json", *PICTURES, ".wav")


def check_output(path: str, n_outputs: int) -> None:
    """Refuses a file that could not be written, before the model runs.

    Raises:
        InvalidArgument: an unknown suffix, a folder that is not there, or several outputs for one array.
    """
    suffix = _suffix(path)
    if suffix not in SUFFIXES:
        raise InvalidArgument("--output", f"a file that ends in {', '.join(SUFFIXES)}", repr(path), "--output out.npz")
    expect_folder("--output", path)
    if suffix == ".npy" and n_outputs != 1:
        raise InvalidArgument("--output", "one output for a .npy file", str(n_outputs), "--output out.npz")


def expect_folder(option: str, path: str) -> None:
    """Raises InvalidArgument for a file that can't be written because its folder is not there."""
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise InvalidArgument(option, "a folder that exists", repr(folder), f"mkdir -p {folder}")


def write_outputs(
    path: str, outputs: Sequence[Output], views: Sequence[View], report: dict[str, Any], rate: int
) -> str:
    """Writes the file and says what is in it. rate: samples a second of a sound.

    Raises:
        InvalidArgument: no output that this kind of file can hold.
        OSError: the file can't be written.
    """
    with naming(path):
        return _written(path, outputs, views, report, rate)


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Gives the errors of writing a file its name, which the system leaves out once the file is open."""
    try:
        yield
    except OSError as exc:
        exc.filename = exc.filename or path
        raise


def _written(path: str, outputs: Sequence[Output], views: Sequence[View], report: dict[str, Any], rate: int) -> str:
    suffix = _suffix(path)
    if suffix == ".npy":
        with open(path, "wb") as file:
            np.save(file, _savable(outputs[0].array))
        return f"{path}: {outputs[0].title}"
    if suffix == ".npz":
        arrays = {output.port.name: _savable(output.array) for output in outputs}
        _save_npz(path, arrays)
        return f"{path}: {', '.join(output.title for output in outputs)}"
    if suffix == ".json":
        values = {output.port.name: output.array.tolist() for output in outputs}
        with open(path, "w", encoding="utf-8") as text:
            text.write(render.json_text({**report, "values": values}) + "\n")
        return f"{path}: the report and all values"
    if suffix == ".wav":
        return _write_sound(path, outputs, rate)
    return _write_picture(path, outputs, views)


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _savable(array: Array) -> Array:
    """Strings as fixed-size bytes, which need no pickle; anything else as it is."""
    return array.astype("S") if array.dtype.kind == "O" else array


def _save_npz(path: str, arrays: dict[str, Array]) -> None:
    """As numpy.savez, which would not take an array called ``file``."""
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def _write_sound(path: str, outputs: Sequence[Output], rate: int) -> str:
    for output in outputs:
        if sounds.is_sound(output.array.shape) and output.array.dtype.kind in "fi":
            reals = np.asarray(dequantize(output.array, output.port), np.float64)
            if output.array.dtype == np.int16 and output.port.quantization is None:
                reals = reals / 32768
            sounds.write_wav(path, reals, rate)
            return f"{path}: {output.title} as sound, {rate} Hz"
    raise _no_output("a sound such as float32[1, samples]", outputs)


def _write_picture(path: str, outputs: Sequence[Output], views: Sequence[View]) -> str:
    from PIL import Image

    for view in views:
        if isinstance(view, ClassMap):
            picture = Image.fromarray((view.classes % 256).astype(np.uint8))
            if _suffix(path) == ".png":
                picture.putpalette(palette())
            picture.save(path)
            return f"{path}: {view.output.title} as a mask, one colour a class"
        if isinstance(view, Picture):
            Image.fromarray(view.pixels).save(path)
            return f"{path}: {view.output.title} as a picture ({view.scaling})"
    raise _no_output("a class map [1, height, width] or a picture [1, height, width, 3]", outputs)


def _no_output(expected: str, outputs: Sequence[Output]) -> InvalidArgument:
    found = ", ".join(output.title for output in outputs) or "no output"
    return InvalidArgument("--output", expected, found, "save the arrays: --output out.npz")


def palette() -> list[int]:
    """256 colours that differ well, class 0 black: the bits of the class, spread over red, green and blue.

    Source: the colour map of the PASCAL VOC development kit (VOCcolormap).
    """
    colours = []
    for index in range(256):
        rgb = [0, 0, 0]
        for level in range(8):
            for channel in range(3):
                rgb[channel] |= (index >> (3 * level + channel) & 1) << (7 - level)
        colours += rgb
    return colours
