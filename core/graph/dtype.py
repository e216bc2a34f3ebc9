"""Element types of tensors: TFLite's types with their NumPy storage. Imports nothing of delegraph."""

from __future__ import annotations

from enum import Enum
from typing import Any

import numpy as np


class DType(Enum):
    """A TFLite tensor type. The value is TFLite's code (Source: schema.fbs, enum TensorType)."""

    FLOAT32 = 0
    FLOAT16 = 1
    INT32 = 2
    UINT8 = 3
    INT64 = 4
    STRING = 5
    BOOL = 6
    INT16 = 7
    COMPLEX64 = 8
    INT8 = 9
    FLOAT64 = 10
    COMPLEX128 = 11
    UINT64 = 12
    RESOURCE = 13
    VARIANT = 14
    UINT32 = 15
    UINT16 = 16
    INT4 = 17
    BFLOAT16 = 18
    INT2 = 19
    UINT4 = 20
    FLOAT8_E4M3FN = 21
    FLOAT8_E5M2 = 22

    def __repr__(self) -> str:
        return f"DType.{self.name}"

    def __str__(self) -> str:
        return self.name.lower()

    @classmethod
    def parse(cls, text: str) -> DType:
        """The type of that name (``"int8"``). Raises KeyError for an unknown name."""
        return cls[text.upper()]

    @classmethod
    def of(cls, dtype: Any) -> DType:
        """The type that stores this NumPy dtype. Raises KeyError for one that TFLite lacks."""
        return _FROM_NUMPY[np.dtype(dtype)]

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy dtype of one unpacked element: int4 and int2 unpack to int8, uint4 to uint8, bfloat16 to uint16,
        float8 to uint8 (raw bits); strings are objects (bytes); resources are int32 handles."""
        return _NUMPY[self]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The same under the name that NumPy looks for: ``np.zeros(shape, info.dtype)`` works."""
        return self.numpy

    @property
    def bits(self) -> int:
        """Bits of one element in the file (0 for strings, resources and variants, which have no fixed size)."""
        return _BITS.get(self, self.numpy.itemsize * 8)

    @property
    def is_plain(self) -> bool:
        """Whether a tensor of this type is a dense array of fixed-size elements."""
        return self.bits > 0

    @property
    def is_integer(self) -> bool:
        return self.numpy.kind in "iu" and self.is_plain and not self.is_float

    @property
    def is_float(self) -> bool:
        return self in _FLOATS


_FLOATS = frozenset(
    {
        DType.FLOAT32,
        DType.FLOAT16,
        DType.FLOAT64,
        DType.BFLOAT16,
        DType.FLOAT8_E4M3FN,
        DType.FLOAT8_E5M2,
    }
)

_NUMPY: dict[DType, np.dtype[Any]] = {
    DType.FLOAT32: np.dtype(np.float32),
    DType.FLOAT16: np.dtype(np.float16),
    DType.INT32: np.dtype(np.int32),
    DType.UINT8: np.dtype(np.uint8),
    DType.INT64: np.dtype(np.int64),
    DType.STRING: np.dtype(object),
    DType.BOOL: np.dtype(np.bool_),
    DType.INT16: np.dtype(np.int16),
    DType.COMPLEX64: np.dtype(np.complex64),
    DType.INT8: np.dtype(np.int8),
    DType.FLOAT64: np.dtype(np.float64),
    DType.COMPLEX128: np.dtype(np.complex128),
    DType.UINT64: np.dtype(np.uint64),
    DType.RESOURCE: np.dtype(np.int32),
    DType.VARIANT: np.dtype(object),
    DType.UINT32: np.dtype(np.uint32),
    DType.UINT16: np.dtype(np.uint16),
    DType.INT4: np.dtype(np.int8),
    DType.BFLOAT16: np.dtype(np.uint16),
    DType.INT2: np.dtype(np.int8),
    DType.UINT4: np.dtype(np.uint8),
    DType.FLOAT8_E4M3FN: np.dtype(np.uint8),
    DType.FLOAT8_E5M2: np.dtype(np.uint8),
}

_BITS = {
    DType.INT4: 4,
    DType.UINT4: 4,
    DType.INT2: 2,
    DType.STRING: 0,
    DType.RESOURCE: 0,
    DType.VARIANT: 0,
}

_FROM_NUMPY: dict[np.dtype[Any], DType] = {
    dtype.numpy: dtype
    for dtype in (
        DType.FLOAT32,
        DType.FLOAT16,
        DType.INT32,
        DType.UINT8,
        DType.INT64,
        DType.BOOL,
        DType.INT16,
        DType.COMPLEX64,
        DType.INT8,
        DType.FLOAT64,
        DType.COMPLEX128,
        DType.UINT64,
        DType.UINT32,
        DType.UINT16,
        DType.STRING,
    )
}
