"""What ``set_tensor`` takes: nothing is cast, and every refusal says what LiteRT says.

Source: InterpreterWrapper::SetTensor in interpreter_wrapper.cc; Set4BitTensor, FillStringBufferWithPyArray in numpy.cc.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Shape, Tensor
from delegraph.inputs import encoded

_UNALLOCATED = "Cannot set tensor: Tensor is unallocated. Try calling allocate_tensors() first"
_FOUR_BITS = {DType.INT4: (DType.INT8, -8, 7), DType.UINT4: (DType.UINT8, 0, 15)}
_FLOAT8 = (DType.FLOAT8_E4M3FN, DType.FLOAT8_E5M2)


def store(tensor: Tensor, shape: Shape, value: Any, memory: Array | None) -> Array | None:
    """Copies ``value`` into a tensor's memory and returns the memory; strings get memory of their own.

    shape: the tensor's current one. memory: None for a tensor that has none.

    Raises:
        ValueError: another dtype or shape, or a tensor that can't be set.
    """
    try:
        array = np.asarray(value)
    except Exception as exc:
        raise ValueError("Failed to convert value into readable tensor.") from exc
    if tensor.dtype in _FOUR_BITS:
        return _store_four_bits(tensor, shape, array, memory)
    _check_dtype(tensor, array)
    _check_shape(tensor, shape, array)
    if tensor.dtype is DType.STRING:
        return _strings(value, array)
    if memory is None:
        if array.size == 0:
            return None
        raise _no_memory(tensor)
    np.copyto(memory, array.view(memory.dtype) if tensor.dtype in _FLOAT8 else array)
    return memory


def _no_memory(tensor: Tensor, where: str = "") -> ValueError:
    if tensor.is_constant:
        return ValueError(f"Cannot set tensor: Tensor {tensor.index} ({tensor.name}) is a constant of the model")
    return ValueError(_UNALLOCATED + where)


def _check_dtype(tensor: Tensor, array: Array) -> None:
    found = _type_name(array)
    if found == tensor.dtype.name or (tensor.dtype in _FLOAT8 and found in ("INT8", "UINT8")):
        return
    raise ValueError(
        f"Cannot set tensor: Got value of type {found} but expected type {tensor.dtype.name} "
        f"for input {tensor.index}, name: {tensor.name} "
    )


def _check_shape(tensor: Tensor, shape: Shape, array: Array) -> None:
    mismatch = "Cannot set tensor: Dimension mismatch."
    if array.ndim != len(shape):
        raise ValueError(f"{mismatch} Got {array.ndim} but expected {len(shape)} for input {tensor.index}.")
    for axis, (got, expected) in enumerate(zip(array.shape, shape, strict=True)):
        if got != expected:
            raise ValueError(
                f"{mismatch} Got {got} but expected {expected} for dimension {axis} of input {tensor.index}."
            )


def _store_four_bits(tensor: Tensor, shape: Shape, array: Array, memory: Array | None) -> Array:
    """As LiteRT: any shape with the right number of elements."""
    holder, low, high = _FOUR_BITS[tensor.dtype]
    name, found = tensor.dtype.name, _type_name(array)
    if found != holder.name:
        raise ValueError(
            f"Cannot set tensor: Expected a numpy array of {holder} for {name} input {tensor.index}, "
            f"name: {tensor.name}, but got {found}"
        )
    expected = math.prod(shape)
    if array.size != expected:
        raise ValueError(
            f"Cannot set tensor: Numpy array for {name} input {tensor.index}, name: {tensor.name}, has {array.size} "
            f"bytes, but expected {expected} bytes for {expected} elements"
        )
    if memory is None:
        raise _no_memory(tensor, f" for input {tensor.index}, name: {tensor.name}")
    if array.size and not low <= array.min() <= array.max() <= high:
        raise ValueError(f"Cannot set tensor: Values for {name} input must be between {low} and {high}.")
    np.copyto(memory, array.reshape(memory.shape))
    return memory


def _strings(value: Any, array: Array) -> Array:
    if not isinstance(value, np.ndarray):
        raise ValueError(f"Passed in value type is not a numpy array, got type {type(value).__name__}.")
    try:
        return encoded(array)
    except (TypeError, UnicodeEncodeError) as exc:
        raise ValueError("PyBytes_AsStringAndSize() failed.") from exc


def _type_name(array: Array) -> str:
    """The TFLite type that stores such an array. Source: TfLiteTypeFromPyType."""
    if array.dtype.kind in "OSU":
        return DType.STRING.name
    try:
        return DType.of(array.dtype.newbyteorder("=")).name
    except KeyError:
        return "NOTYPE"
