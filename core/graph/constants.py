"""Constant data as it lies in a file, to arrays and back: packed integers, strings, plain types.

Imports core.graph.dtype. Layouts (Source: schema.fbs, tflite/string_util.h): plain types little-endian, row-major;
INT4 and UINT4 two to a byte with the first element in the low nibble, INT2 four to a byte; strings as
``int32 n, int32 offset[n + 1], bytes`` with offsets from the start of the buffer.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from delegraph.core.errors import InvalidModel
from delegraph.core.graph.dtype import DType

Array = npt.NDArray[Any]


def decode(data: Array, dtype: DType, shape: tuple[int, ...], *, is_sparse: bool = False) -> Array:
    """The array in ``data`` (uint8, 1-D).

    Plain types come back as a view. Sparse constants come back 1-D with the values that are stored.

    Raises:
        InvalidModel: fewer values than the shape has elements, strings whose offsets leave the buffer, a variant.
    """
    n = math.prod(shape)
    if dtype is DType.VARIANT:
        raise InvalidModel("constant", "a type with a fixed layout", "variant")
    if dtype is DType.STRING:
        return _shaped(decode_strings(data), shape)
    if dtype.bits in (2, 4):
        values = unpack(data, dtype)
    else:
        size = dtype.numpy.itemsize
        values = data[: data.size // size * size].view(dtype.numpy)
    if is_sparse:
        return values
    return _shaped(values[:n], shape)


def _shaped(values: Array, shape: tuple[int, ...]) -> Array:
    if values.size != math.prod(shape):
        raise InvalidModel("constant", f"{math.prod(shape)} elements for shape {list(shape)}", f"{values.size}")
    return values.reshape(shape)


def unpack(data: Array, dtype: DType) -> Array:
    """Elements of 2 or 4 bits as int8 or uint8, first element in the low bits."""
    bits = dtype.bits
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    fields = (data[:, None] >> shifts) & np.uint8((1 << bits) - 1)
    flat = fields.reshape(-1).astype(np.uint8)
    if dtype is DType.UINT4:
        return flat
    sign = np.int8(1 << (bits - 1))
    signed: Array = (flat.view(np.int8) ^ sign) - sign
    return signed


def pack(values: Array, dtype: DType) -> Array:
    """The inverse of ``unpack``; the last byte is filled with zeros."""
    bits = dtype.bits
    per_byte = 8 // bits
    flat = np.ascontiguousarray(values).reshape(-1).view(np.uint8) & np.uint8((1 << bits) - 1)
    padded = np.zeros(-(-flat.size // per_byte) * per_byte, np.uint8)
    padded[: flat.size] = flat
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    packed: Array = np.bitwise_or.reduce(padded.reshape(-1, per_byte) << shifts, axis=1)
    return packed


def decode_strings(data: Array) -> Array:
    """The strings of a string tensor's buffer, as a 1-D object array of bytes."""
    if data.size == 0:
        return np.empty(0, object)
    where = "string tensor"
    if data.size < 4:
        raise InvalidModel(where, "at least 4 bytes", f"{data.size}")
    raw = data.tobytes()
    n = int.from_bytes(raw[:4], "little", signed=True)
    if n < 0 or 4 + 4 * (n + 1) > len(raw):
        raise InvalidModel(where, f"a count that fits in {len(raw)} bytes", f"{n} strings")
    offsets = np.frombuffer(raw, "<i4", n + 1, 4)
    if offsets[0] < 0 or offsets[-1] > len(raw) or np.any(np.diff(offsets) < 0):
        raise InvalidModel(where, f"ascending offsets within {len(raw)} bytes", str(offsets[:4].tolist()))
    found = np.empty(n, object)
    for i in range(n):
        found[i] = raw[offsets[i] : offsets[i + 1]]
    return found


def encode_strings(values: Array) -> Array:
    """The buffer of a string tensor that holds these strings (bytes, or str as UTF-8), as uint8."""
    items = [v.encode() if isinstance(v, str) else bytes(v) for v in np.asarray(values, object).reshape(-1)]
    offsets = np.cumsum([4 + 4 * (len(items) + 1)] + [len(item) for item in items]).astype("<i4")
    head = np.array([len(items)], "<i4").tobytes() + offsets.tobytes()
    return np.frombuffer(head + b"".join(items), np.uint8)
