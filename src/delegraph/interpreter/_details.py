"""Tensors and ops as the dictionaries of TFLite's Python API describe them."""

from __future__ import annotations

from typing import Any

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Graph, Op, Shape, Tensor
from delegraph.core.model.table import Table

_CLASSES: dict[DType, type] = {
    DType.STRING: np.bytes_,
    DType.RESOURCE: np.object_,
    DType.VARIANT: np.object_,
    DType.FLOAT8_E4M3FN: np.int8,
    DType.FLOAT8_E5M2: np.int8,
}


def tensor_details(graph: Graph, tensor: Tensor, table: Table, shape: Shape, *, compress: bool) -> dict[str, Any]:
    """The dictionary of one tensor.

    table: the tensor as the file has it: TFLite shows some of what the graph leaves out. shape: the current one.
    compress: zero points that are all equal are shown once.
    """
    scale, zero_point, parameters = _quantization(graph, table.quantization, compress=compress)
    return {
        "name": tensor.name,
        "index": tensor.index,
        "shape": np.array(shape, np.int32),
        "shape_signature": np.array(signature(tensor, shape), np.int32),
        "dtype": dtype_class(tensor.dtype),
        "quantization": (scale, zero_point),
        "quantization_parameters": parameters,
        "sparsity_parameters": _sparsity(tensor),
    }


def op_details(graph: Graph, op: Op, index: int) -> dict[str, Any]:
    """The dictionary of one op."""

    def classes(tensors: tuple[int, ...]) -> list[type]:
        return [dtype_class(graph.tensors[i].dtype) for i in tensors if i != -1]

    return {
        "index": index,
        "op_name": op.name,
        "inputs": np.array(op.inputs, np.int32),
        "outputs": np.array(op.outputs, np.int32),
        "operand_types": classes(op.inputs),
        "result_types": classes(op.outputs),
    }


def signature(tensor: Tensor, shape: Shape) -> Shape:
    """The shape with -1 for unknown sizes; the current shape where the file has none, and for constants."""
    return tensor.shape_signature if tensor.has_shape_signature and not tensor.is_constant else shape


def dtype_class(dtype: DType) -> type:
    """The NumPy class that stands for a type. Source: TfLiteTypeToPyArrayType."""
    return _CLASSES.get(dtype, dtype.numpy.type)


def _quantization(graph: Graph, table: Table | None, *, compress: bool) -> tuple[float, int, dict[str, Any]]:
    """(scale, zero point, parameters); zeros unless there is exactly one scale. Source: ParseQuantization."""
    scales: Array = np.zeros(0, np.float32)
    zero_points: Array = np.zeros(0, np.int32)
    axis, block_size = 0, 0
    details = None if table is None else table.details
    one = (0.0, 0)
    if table is None or (details is not None and details.type_name == "MultiAxisQuantization"):
        pass
    elif details is not None and details.type_name == "BlockwiseQuantization":
        scales = _constant(graph, details.scales, np.float16)
        zero_points = _constant(graph, details.zero_points, np.int32)
        axis, block_size = table.quantized_dimension, details.block_size
    elif table.scale is not None and len(table.scale):
        scales = np.array(table.scale, np.float32)
        zeros = np.zeros(scales.size, np.int64) if table.zero_point is None else np.asarray(table.zero_point)
        zero_points = zeros.astype(np.int32)
        axis = table.quantized_dimension
        if scales.size == 1:
            one = float(scales[0]), int(zero_points[0])
        if compress and zero_points.size and (zero_points == zero_points[0]).all():
            zero_points = zero_points[:1].copy()
    parameters = {
        "scales": scales,
        "zero_points": zero_points,
        "quantized_dimension": axis,
        "block_size": block_size,
    }
    return *one, parameters


def _constant(graph: Graph, index: int, dtype: Any) -> Array:
    """The flat values of a constant tensor; none for an index that names none."""
    found = graph.tensors[index].constant if 0 <= index < len(graph.tensors) else None
    return np.zeros(0, dtype) if found is None else np.array(found.reshape(-1), dtype)


def _sparsity(tensor: Tensor) -> dict[str, Any]:
    table = tensor.sparsity
    if table is None or not tensor.is_constant:
        return {}
    found: dict[str, Any] = {"traversal_order": np.array(table.traversal_order, np.int32)}
    if table.block_map is not None:
        found["block_map"] = np.array(table.block_map, np.int32)
    found["dim_metadata"] = [_dimension(dim) for dim in table.dim_metadata or ()]
    return found


def _dimension(table: Table) -> dict[str, Any]:
    if table.format == 0:
        return {"format": 0, "dense_size": int(table.dense_size)}
    return {
        "format": 1,
        "array_segments": np.array(table.array_segments.values, np.int32),
        "array_indices": np.array(table.array_indices.values, np.int32),
    }
