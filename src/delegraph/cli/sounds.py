"""WAV files to input tensors and back. Imports the standard library's wave lazily."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from delegraph.cli.tensors import Port, is_quantized, quantize
from delegraph.core.errors import InvalidArgument
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array

SUFFIXES = (".wav", ".wave")


def load_sound(path: str, port: Port) -> tuple[Array, dict[str, Any]]:
    """The sound as the input's array (mono, cut or padded with silence), and the record of what was done.

    Raises:
        InvalidArgument: no WAV file, another sample rate than the model's metadata names, or no input for a sound.
        OSError: the file can't be read.
    """
    long = [n for n in port.shape if n != 1]
    if len(long) > 1 or not port.shape or not (port.dtype.is_float or is_quantized(port) or _is_int16(port)):
        raise InvalidArgument(
            f"input {port.name!r}",
            f"an array {port.dtype}{list(port.shape)}",
            f"the sound {path}",
            f"a sound needs an input like float32[1, samples]; pass an array: --input {port.name}=array.npy",
        )
    samples, rate, n_channels = read_wav(path)
    expected = port.metadata.sample_rate
    if expected and rate != expected:
        raise InvalidArgument(
            path,
            f"{expected} samples a second, as the model's metadata says",
            str(rate),
            f"convert it: ffmpeg -i {path} -ar {expected} -ac 1 out.wav",
        )
    n_found = len(samples)
    n_wanted = n_found if not long or long[0] < 0 else long[0]
    samples = np.pad(samples[:n_wanted], (0, max(0, n_wanted - n_found)))
    shape = tuple(n_wanted if n not in (1,) else 1 for n in port.shape)
    record = {
        "kind": "sound",
        "found": {"rate": rate, "channels": n_channels, "samples": n_found},
        "samples": n_wanted,
        "fit": "none" if n_found == n_wanted else "cut" if n_found > n_wanted else "padded with silence",
    }
    values, record["values"] = _values(samples, port)
    if port.real_range is not None and not 0.5 <= port.real_range[1] <= 4:
        low, high = port.real_range
        record["warning"] = (
            f"input {port.name!r} holds values from {low:.4g} to {high:.4g}, which looks like features rather than "
            "samples in -1..1"
        )
    return values.reshape(shape), record


def describe(path: str, record: dict[str, Any]) -> str:
    """The record of a sound as a sentence."""
    found = record["found"]
    parts = [f"{found['rate']} Hz, {found['channels']} channel{'s' if found['channels'] > 1 else ''}"]
    if record["fit"] != "none":
        parts.append(f"{found['samples']} samples {record['fit']} to {record['samples']}")
    return f"{path}: {', '.join([*parts, record['values']])}"


def _is_int16(port: Port) -> bool:
    return port.dtype is DType.INT16


def _values(samples: Array, port: Port) -> tuple[Array, str]:
    if is_quantized(port):
        return quantize(samples, port), "samples in -1..1, quantized"
    if _is_int16(port):
        return np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16), "samples as int16"
    return samples.astype(port.dtype.numpy), "samples / 32768 in -1..1"


def read_wav(path: str) -> tuple[Array, int, int]:
    """(samples as float64 in -1..1, mixed to mono; rate; number of channels in the file).

    Raises:
        InvalidArgument: no PCM WAV file.
        OSError: the file can't be read.
    """
    import wave

    advice = f"convert it: ffmpeg -i {path} -c:a pcm_s16le out.wav"
    with open(path, "rb") as file:
        try:
            with wave.open(file) as sound:
                n_channels, width, rate = sound.getnchannels(), sound.getsampwidth(), sound.getframerate()
                data = sound.readframes(sound.getnframes())
        except (wave.Error, EOFError) as exc:
            raise InvalidArgument(path, "a PCM WAV file", f"a file that is none ({exc})", advice) from exc
    frame = n_channels * width
    if not 1 <= width <= 4 or len(data) < frame:
        raise InvalidArgument(path, "at least one sample of 1 to 4 bytes", f"{len(data)} bytes of sound", advice)
    data = data[: len(data) // frame * frame]
    if width == 1:
        samples = (np.frombuffer(data, np.uint8).astype(np.float64) - 128) / 128
    else:
        wide = np.zeros((len(data) // width, 4), np.uint8)
        wide[:, 4 - width :] = np.frombuffer(data, np.uint8).reshape(-1, width)
        samples = wide.reshape(-1).view("<i4").astype(np.float64) / 2**31
    return samples.reshape(-1, n_channels).mean(axis=1), rate, n_channels


def write_wav(path: str, reals: Array, rate: int) -> None:
    """Writes mono 16-bit sound; values outside -1..1 are clipped."""
    import wave

    samples = np.nan_to_num(np.asarray(reals, np.float64).reshape(-1))
    with open(path, "wb") as file, wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes())


def is_sound(shape: tuple[int, ...]) -> bool:
    """Whether an output of this shape can be written as a sound: one long axis."""
    return math.prod(shape) > 1 and max(shape) == math.prod(shape)
