"""Pictures to input tensors: channels, size, normalisation, quantization, each step recorded. Imports Pillow lazily."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from delegraph.cli.tensors import Port, is_quantized, quantize
from delegraph.core.errors import InvalidArgument
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Shape

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True)
class Normalization:
    """``(pixel - mean) / std`` with pixels in 0..255. source: who said so (a flag, metadata, the default).

    as_pixels: no arithmetic at all; a quantized input takes the pixels themselves (int8: less 128).
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str
    as_pixels: bool = False


PRESETS = {"none": ((0.0,), (1.0,)), "-1..1": ((127.5,), (127.5,)), "0..1": ((0.0,), (255.0,))}


def normalization(
    preset: str | None, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Normalization | None:
    """What the flags ask for, None if nothing.

    Raises:
        InvalidArgument: flags that exclude each other, or a std of 0.
    """
    if preset is not None and (mean is not None or std is not None):
        raise InvalidArgument("--normalize", "no --mean or --std beside it", "both", "leave out one of them")
    if preset is not None:
        return Normalization(*PRESETS[preset], source="--normalize", as_pixels=preset == "none")
    if mean is None and std is None:
        return None
    if std is not None and not all(std):
        raise InvalidArgument("--std", "numbers other than 0", "0", "for pixels as they are: --normalize none")
    return Normalization(tuple(mean or (0.0,)), tuple(std or (1.0,)), source="--mean/--std")


@dataclass(frozen=True)
class Layout:
    """Where height, width and channels lie in an input. height, width: None for any."""

    height: int | None
    width: int | None
    channels: int
    channels_axis: int | None
    n_leading: int

    def arrange(self, pixels: Array) -> Array:
        """[H, W, C] to the input's own order of axes."""
        if self.channels_axis is None:
            pixels = pixels[:, :, 0]
        elif self.channels_axis == 0:
            pixels = pixels.transpose(2, 0, 1)
        return np.ascontiguousarray(pixels.reshape((1,) * self.n_leading + pixels.shape))


def layout_of(shape: Shape) -> Layout | None:
    """How a picture goes into a tensor of that shape, None if it can't.

    [1,H,W,C] and [H,W,C] with 1, 3 or 4 channels, [1,C,H,W], and grey [1,H,W] and [H,W].
    """

    def size(n: int) -> int | None:
        return None if n < 0 else n

    if len(shape) == 4 and shape[0] in (1, -1):
        if shape[3] in (1, 3, 4, -1):
            return Layout(size(shape[1]), size(shape[2]), 3 if shape[3] < 0 else shape[3], 2, 1)
        if shape[1] in (1, 3, 4):
            return Layout(size(shape[2]), size(shape[3]), shape[1], 0, 1)
    if len(shape) == 3 and shape[2] in (1, 3, 4) and shape[0] != 1:
        return Layout(size(shape[0]), size(shape[1]), shape[2], 2, 0)
    if len(shape) == 3 and shape[0] in (1, -1) and shape[1] != 1 and shape[2] != 1:
        return Layout(size(shape[1]), size(shape[2]), 1, None, 1)
    if len(shape) == 2 and 1 not in shape:
        return Layout(size(shape[0]), size(shape[1]), 1, None, 0)
    return None


def load_picture(path: str, port: Port, wanted: Normalization | None) -> tuple[Array, dict[str, Any]]:
    """The picture as the input's array, and the record of what was done.

    Raises:
        InvalidArgument: no picture, or no input for one.
        OSError: the file can't be read.
    """
    layout = layout_of(port.shape)
    if layout is None:
        raise InvalidArgument(
            f"input {port.name!r}",
            f"an array of shape {list(port.shape)}",
            f"the picture {path}",
            f"a picture needs an input like [1, height, width, 3]; pass an array: --input {port.name}=array.npy",
        )
    picture = _open(path)
    found_size, found_mode = picture.size, picture.mode
    pixels = _pixels(picture, layout)
    array, record = normalize(pixels, port, layout, wanted)
    height, width = pixels.shape[:2]
    return array, {
        "kind": "picture",
        "found": {"width": found_size[0], "height": found_size[1], "mode": found_mode},
        "width": width,
        "height": height,
        "channels": _MODES[layout.channels],
        "resize": "none" if (width, height) == found_size else "bilinear, squeezed",
        **record,
    }


def describe(path: str, record: dict[str, Any]) -> str:
    """The record of a picture as a sentence."""
    found = record["found"]
    parts = [f"{found['width']}x{found['height']} {found['mode']}"]
    if record["resize"] != "none":
        parts.append(f"resized to {record['width']}x{record['height']} ({record['resize']})")
    if record["channels"] != found["mode"]:
        parts.append(f"as {record['channels']}")
    return f"{path}: {', '.join([*parts, record['values']])}"


def _open(path: str) -> Image:
    from PIL import Image, ImageOps, UnidentifiedImageError

    formats = "a picture (jpg, png, bmp, gif, webp, tiff)"
    advice = "open it in a viewer to see whether it is whole"
    with open(path, "rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(file) as picture:
                picture.load()
                return ImageOps.exif_transpose(picture)
        except UnidentifiedImageError:
            raise InvalidArgument(path, formats, "a file that is none", advice) from None
        except Image.DecompressionBombError as exc:
            raise InvalidArgument(path, "a picture of at most 178 megapixels", str(exc), "make it smaller") from exc
        except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError) as exc:
            raise InvalidArgument(path, formats, f"a damaged one ({exc})", advice) from exc


def _pixels(picture: Image, layout: Layout) -> Array:
    """[H, W, C] uint8 in the wanted size and channels."""
    from PIL import Image

    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        wide = np.asarray(picture).astype(np.float64)
        top = 65535.0 if wide.max(initial=0.0) > 255 else 255.0
        picture = Image.fromarray(np.clip(wide * 255 / top, 0, 255).astype(np.uint8))
    if picture.mode != _MODES[layout.channels]:
        picture = picture.convert(_MODES[layout.channels])
    size = (layout.width or picture.width, layout.height or picture.height)
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(picture).reshape(size[1], size[0], layout.channels)


def normalize(pixels: Array, port: Port, layout: Layout, wanted: Normalization | None) -> tuple[Array, dict[str, Any]]:
    """Pixels [H, W, C] uint8 as the input's values, and what was done.

    Without flags: a uint8 input takes the pixels; int8 takes them less 128 where its range is [-1, 1], [0, 1] or
    [0, 255]; else the model's metadata decides, or [-1, 1].
    """
    if port.dtype in (DType.STRING, DType.BOOL, DType.RESOURCE) or port.dtype.bits < 8:
        raise InvalidArgument(f"input {port.name!r}", "an input for numbers", f"one of {port.dtype}")
    if wanted is None and _takes_pixels(port):
        wanted = Normalization(*PRESETS["none"], source="the input's type", as_pixels=True)
    if wanted is not None and wanted.as_pixels and port.dtype.is_integer:
        return _as_pixels(pixels, port, layout, wanted)
    if wanted is None:
        wanted = _default(port, layout)
    mean, std = (_per_channel(v, port, layout, wanted) for v in (wanted.mean, wanted.std))
    reals = (pixels.astype(np.float64) - mean) / std
    record: dict[str, Any] = {
        "normalization": {"mean": list(wanted.mean), "std": list(wanted.std), "from": wanted.source},
        "values": f"(pixel - {_short(wanted.mean)}) / {_short(wanted.std)}, from {wanted.source}",
    }
    if is_quantized(port):
        values = quantize(reals, port)
        if _is_identity(port, mean, std):
            values = (pixels.astype(np.int64) + port.limits[0]).astype(port.dtype.numpy)
        record["values"] += ", quantized"
    elif port.dtype.is_integer:
        values = np.clip(np.rint(reals), *port.limits).astype(port.dtype.numpy)
    elif port.dtype is DType.BFLOAT16:
        bits = reals.astype(np.float32).view(np.uint32)
        values = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)  # to nearest even
    else:
        values = reals.astype(port.dtype.numpy)
    return layout.arrange(values), record


def _as_pixels(pixels: Array, port: Port, layout: Layout, wanted: Normalization) -> tuple[Array, dict[str, Any]]:
    offset = -128 if port.dtype is DType.INT8 else 0
    values = layout.arrange((pixels.astype(np.int64) + offset).astype(port.dtype.numpy))
    said = "pixels less 128" if offset else "pixels as they are"
    return values, {"normalization": None, "values": f"{said}, from {wanted.source}"}


def _takes_pixels(port: Port) -> bool:
    """Whether 0..255 is what an integer input means by default."""
    if port.dtype is not DType.INT8:
        return port.dtype.is_integer and (port.dtype is DType.UINT8 or not is_quantized(port))
    if port.metadata.mean or port.real_range is None:
        return port.real_range is None
    low, high = port.real_range
    return any(
        abs(low - a) <= tolerance and abs(high - b) <= tolerance
        for a, b, tolerance in ((-1, 1, 0.02), (0, 1, 0.02), (0, 255, 2), (-128, 127, 2))
    )


def _is_identity(port: Port, mean: Array, std: Array) -> bool:
    """Whether normalisation and quantization together only shift pixels, to within one step: then do just that."""
    if port.dtype not in (DType.UINT8, DType.INT8) or port.quantization is None:
        return False
    scale, zero_point = float(port.quantization.scale), port.quantization.zero_point
    low, high = ((end - mean) / std / scale + zero_point for end in (0.0, 255.0))
    return bool(np.all(np.abs(low - port.limits[0]) <= 1) and np.all(np.abs(high - port.limits[1]) <= 1))


def _default(port: Port, layout: Layout) -> Normalization:
    about = port.metadata
    if about.mean and {len(about.mean), len(about.std)} <= {1, layout.channels}:
        return Normalization(about.mean, about.std, "the model's metadata")
    return Normalization(*PRESETS["-1..1"], source="the default (--normalize changes it)")


def _per_channel(values: tuple[float, ...], port: Port, layout: Layout, wanted: Normalization) -> Array:
    if len(values) not in (1, layout.channels):
        raise InvalidArgument(
            wanted.source,
            f"1 or {layout.channels} numbers for input {port.name!r}",
            str(len(values)),
            "separate the channels' numbers by commas: --mean 123.7,116.3,103.5",
        )
    return np.asarray(values, np.float64)


def _short(values: Sequence[float]) -> str:
    text = ", ".join(f"{v:g}" for v in values)
    return text if len(values) == 1 else f"[{text}]"
