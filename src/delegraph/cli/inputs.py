"""``--input [NAME=]PATH`` and ``--random``: files to arrays for a model's inputs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from delegraph.advice import to_dtype, to_shape
from delegraph.cli import pictures, render, sounds
from delegraph.cli.pictures import Normalization
from delegraph.cli.tensors import Port
from delegraph.core.errors import InvalidArgument
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array

RAW_SUFFIXES = (".raw", ".bin")
KINDS = "jpg, png, bmp, wav, npy, npz, raw, txt"


@dataclass(frozen=True)
class Given:
    """A value for an input. source: the file, or ``random``. record: what was done to it (``preprocessing``)."""

    array: Array
    source: str
    record: Mapping[str, Any]

    @property
    def sentence(self) -> str:
        """What was done, where something was decided for the user."""
        kind = self.record.get("kind")
        if kind == "picture":
            return pictures.describe(self.source, dict(self.record))
        if kind == "sound":
            return sounds.describe(self.source, dict(self.record))
        return ""


def wanted(found: Sequence[Port]) -> str:
    """The inputs in words: ``'image' uint8[1, 224, 224, 3]``."""
    return ", ".join(map(str, found)) or "none"


def load_inputs(
    arguments: Sequence[str], found: Sequence[Port], flags: Normalization | None, seed: int | None
) -> list[Given]:
    """One value for each port: named ones first, the others in order; what is missing at random, if seed is given.

    Raises:
        InvalidArgument: a file that doesn't fit, an unknown name, or inputs without a value.
        OSError: a file can't be read.
    """
    given: dict[str, Given] = {}
    unnamed: list[str] = []
    for argument in arguments:
        name, path = _split(argument, found)
        if name is None:
            unnamed.append(path)
        else:
            _add(given, name, _load(path, _port(found, name), flags))
    for path in unnamed:
        free = [port for port in found if port.name not in given]
        if _kind(path) == "npz":
            for name, value in _load_npz(path, free).items():
                _add(given, name, value)
        elif not free:
            raise InvalidArgument(
                "--input",
                f"{render.counted(len(found), 'input')} ({wanted(found)})",
                f"one more: {path}",
                "leave it out",
            )
        else:
            _add(given, free[0].name, _load(path, free[0], flags))
    missing = [port for port in found if port.name not in given]
    if missing and seed is None:
        example = " ".join(f"--input {_quoted(port.name)}=PATH" for port in missing)
        raise InvalidArgument(
            "--input", f"a value for {wanted(missing)}", "none", f"pass {example} ({KINDS}), or --random"
        )
    if missing:
        given |= _random(missing, seed or 0)
    return [given[port.name] for port in found]


def _split(argument: str, found: Sequence[Port]) -> tuple[str | None, str]:
    """(name, path) of ``NAME=PATH``; (None, path) of a path, which may have a ``=`` itself."""
    for port in sorted(found, key=lambda port: -len(port.name)):
        if argument.startswith(f"{port.name}="):
            path = argument[len(port.name) + 1 :]
            if not path:
                raise InvalidArgument("--input", f"a path behind {argument!r}", "none", f"pass {argument}PATH")
            return port.name, path
    name, equals, path = argument.partition("=")
    if not argument:
        raise InvalidArgument("--input", "[NAME=]PATH", "an empty text", "name the file: --input picture.jpg")
    if not equals or os.path.exists(argument) or os.sep in name:
        return None, argument
    return name, path


def _port(found: Sequence[Port], name: str) -> Port:
    for port in found:
        if port.name == name:
            return port
    raise InvalidArgument("--input", f"one of the inputs {wanted(found)}", repr(name), "names are case-sensitive")


def _add(given: dict[str, Given], name: str, value: Given) -> None:
    if name in given:
        raise InvalidArgument(f"input {name!r}", "one value", f"two: {given[name].source} and {value.source}")
    given[name] = value


def _quoted(name: str) -> str:
    return name if name.replace("_", "").replace(":", "").isalnum() else f"'{name}'"


def _kind(path: str) -> str:
    suffix = os.path.splitext(path)[1].lower()
    if suffix in pictures.SUFFIXES:
        return "picture"
    if suffix in sounds.SUFFIXES:
        return "sound"
    if suffix in RAW_SUFFIXES:
        return "raw"
    if suffix in (".npy", ".npz", ".txt"):
        return suffix[1:]
    return _kind_by_content(path)


def _kind_by_content(path: str) -> str:
    with open(path, "rb") as file:
        head = file.read(12)
    for magic, kind in (
        (b"\x93NUMPY", "npy"),
        (b"PK\x03\x04", "npz"),
        (b"\xff\xd8\xff", "picture"),
        (b"\x89PNG", "picture"),
        (b"BM", "picture"),
    ):
        if head.startswith(magic):
            return kind
    if head.startswith(b"RIFF") and head.endswith(b"WAVE"):
        return "sound"
    raise InvalidArgument(path, f"a file of one of these kinds: {KINDS}", "another", "rename it to what it holds")


def _load(path: str, port: Port, flags: Normalization | None) -> Given:
    kind = _kind(path)
    if kind == "picture":
        return Given(*_with_source(path, pictures.load_picture(path, port, flags)))
    if kind == "sound":
        return Given(*_with_source(path, sounds.load_sound(path, port)))
    if kind == "raw":
        return Given(_load_raw(path, port), path, {"kind": "raw"})
    if kind == "txt":
        return Given(_load_text(path, port), path, {"kind": "text"})
    if kind == "npz":
        return _load_npz(path, [port])[port.name]
    array = _read_numpy(path)
    if flags is not None and array.dtype == np.uint8 and not (flags.as_pixels and port.dtype is DType.UINT8):
        return _pixels_array(path, array, port, flags)
    return Given(checked(array, port, path), path, {"kind": "array"})


def _with_source(path: str, loaded: tuple[Array, dict[str, Any]]) -> tuple[Array, str, dict[str, Any]]:
    return loaded[0], path, loaded[1]


def _pixels_array(path: str, array: Array, port: Port, flags: Normalization) -> Given:
    """An array of pixels, as a picture that has the right size already."""
    layout = pictures.layout_of(port.shape)
    n_values = array.size
    if layout is None or layout.channels_axis == 0 or len(array.shape) != len(port.shape):
        return Given(checked(array, port, path), path, {"kind": "array"})
    _check_shape(array, port, path)
    pixels = array.reshape(array.shape[layout.n_leading : layout.n_leading + 2] + (-1,))
    values, record = pictures.normalize(pixels, port, layout, flags)
    return Given(values, path, {"kind": "array", "pixels": n_values, **record})


def _read_numpy(path: str) -> Array:
    advice = "write it with numpy.save(path, array)"
    with open(path, "rb") as file:
        try:
            array = np.lib.format.read_array(file, allow_pickle=False)
        except (ValueError, EOFError, OSError, MemoryError, SyntaxError, TypeError, KeyError) as exc:
            raise InvalidArgument(path, "an array as numpy.save writes it", f"another file ({exc})", advice) from exc
    return array


def _load_npz(path: str, free: Sequence[Port]) -> dict[str, Given]:
    """Arrays by input name; a single array goes to a single input whatever its name."""
    import zipfile

    advice = "write it with numpy.savez(path, name=array, ...)"
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        except (ValueError, EOFError, OSError, zipfile.BadZipFile, AttributeError, TypeError) as exc:
            raise InvalidArgument(path, "arrays as numpy.savez writes them", f"another file ({exc})", advice) from exc
    names = [port.name for port in free]
    if len(arrays) == 1 and len(free) == 1:
        arrays = {names[0]: next(iter(arrays.values()))}
    unknown = [name for name in arrays if name not in names]
    if unknown:
        raise InvalidArgument(
            path,
            f"arrays named {', '.join(map(repr, names)) or 'after inputs that have no value yet'}",
            ", ".join(map(repr, unknown)),
            "name the arrays like the inputs: numpy.savez(path, **{'name': array})",
        )
    return {
        port.name: Given(checked(arrays[port.name], port, path), path, {"kind": "array"})
        for port in free
        if port.name in arrays
    }


def checked(array: Array, port: Port, path: str) -> Array:
    """The array, if it has the input's type and a shape it can have; nothing is cast.

    Raises:
        InvalidArgument: it has not.
    """
    where = f"{path} for input {port.name!r}"
    if port.dtype is DType.STRING:
        if array.dtype.kind not in "SUO":
            raise InvalidArgument(where, "strings", str(array.dtype), "pass a .txt file, one string a line")
        encoded = np.frompyfunc(lambda s: s.encode() if isinstance(s, str) else bytes(s), 1, 1)(array)
        array = np.asarray(encoded, object).reshape(array.shape)
    elif array.dtype != port.dtype.numpy:
        tip = to_dtype(array, port.dtype, port.quantization)
        if array.dtype == np.uint8 and pictures.layout_of(port.shape) is not None:
            tip = "if these are pixels, say how to normalise them: --normalize -1..1 (or 0..1, none)"
        raise InvalidArgument(where, str(port.dtype), str(array.dtype), tip)
    _check_shape(array, port, path)
    return np.ascontiguousarray(array)


def _check_shape(array: Array, port: Port, path: str) -> None:
    if port.shape == () or _fits(array.shape, port.shape):
        return
    tip = to_shape(array.shape, port.shape)
    layout = pictures.layout_of(port.shape)
    if not tip and layout is not None and layout.height and layout.width and array.dtype.kind in "uif":
        tip = f"if it is a picture, pass that as a file: a .png or .jpg is resized to {layout.width}x{layout.height}"
    where, expected = f"{path} for input {port.name!r}", f"shape {list(port.shape)}"
    raise InvalidArgument(where, expected, str(list(array.shape)), tip)


def _fits(shape: Sequence[int], pattern: Sequence[int]) -> bool:
    return len(shape) == len(pattern) and all(w in (-1, n) for n, w in zip(shape, pattern, strict=True))


def _load_raw(path: str, port: Port) -> Array:
    if port.dtype is DType.STRING or not port.dtype.is_plain:
        raise InvalidArgument(f"input {port.name!r}", "a type of fixed size", str(port.dtype), "pass a .txt file")
    with open(path, "rb") as file:
        data = file.read()
    unit = port.dtype.numpy.itemsize
    for n in port.shape:
        unit *= max(n, 1)
    n_unknown = sum(n < 0 for n in port.shape)
    if n_unknown > 1:
        raise InvalidArgument(
            f"input {port.name!r}",
            "at most one unknown dimension, to read raw bytes",
            f"shape {list(port.shape)}",
            "pass an array, which has a shape of its own: --input array.npy",
        )
    if (len(data) != unit) if not n_unknown else (not data or len(data) % unit):
        raise InvalidArgument(
            f"{path} for input {port.name!r}",
            f"{'a multiple of ' if n_unknown else ''}{unit} bytes ({port.dtype}{list(port.shape)})",
            str(len(data)),
            "write it with array.tofile(path)",
        )
    array = np.frombuffer(data, port.dtype.numpy)
    return array.reshape([n if n >= 0 else -1 for n in port.shape])


def _load_text(path: str, port: Port) -> Array:
    if port.dtype is not DType.STRING:
        raise InvalidArgument(
            f"input {port.name!r}",
            f"an array {port.dtype}{list(port.shape)}",
            f"the text {path}",
            f"pass the numbers as an array: --input {_quoted(port.name)}=array.npy",
        )
    with open(path, "rb") as file:
        lines = file.read().splitlines()
    array = np.empty(len(lines), object)
    array[:] = lines
    if port.shape and sum(n < 0 for n in port.shape) == 0 and array.size == int(np.prod(port.shape)):
        array = array.reshape(port.shape)
    if port.shape and not _fits(array.shape, port.shape):
        raise InvalidArgument(
            f"{path} for input {port.name!r}",
            f"strings of shape {list(port.shape)}",
            render.counted(len(lines), "line"),
            "write as many lines as the input takes strings",
        )
    return array


def _random(missing: Sequence[Port], seed: int) -> dict[str, Given]:
    """Random values: floats in [-1, 1), 8- and 16-bit integers in their whole range, wider ones in [0, 10)."""
    generator = np.random.default_rng(seed)
    record = {"kind": "random", "seed": seed}
    return {port.name: Given(_random_array(generator, port), "random", record) for port in missing}


def _random_array(generator: np.random.Generator, port: Port) -> Array:
    shape = tuple(max(n, 1) for n in port.shape)
    dtype = port.dtype.numpy
    if port.dtype is DType.STRING:
        return np.full(shape, b"what a great movie", object)
    if port.dtype is DType.BFLOAT16:
        return (generator.uniform(-1, 1, shape).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    if dtype.kind == "f":
        return generator.uniform(-1, 1, shape).astype(dtype)
    if dtype.kind == "c":
        return (generator.uniform(-1, 1, shape) + 1j * generator.uniform(-1, 1, shape)).astype(dtype)
    if dtype.kind == "b":
        return generator.integers(0, 2, shape).astype(dtype)
    if port.dtype.is_integer and dtype.itemsize <= 2:
        low, high = (
            (0, 1 << port.dtype.bits) if dtype.kind == "u" else (-1 << port.dtype.bits - 1, 1 << port.dtype.bits - 1)
        )
        return generator.integers(low, high, shape).astype(dtype)
    if port.dtype.is_integer:
        return generator.integers(0, 10, shape).astype(dtype)
    raise InvalidArgument(f"input {port.name!r}", "a type that --random knows", str(port.dtype), "pass array.npy")
