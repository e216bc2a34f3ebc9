"""Model → GraphSet: the one place that reads the FlatBuffer's tables. Imports core.model."""

from __future__ import annotations

from typing import Any

import numpy as np

from delegraph.core.errors import InvalidModel
from delegraph.core.graph.calls import check_calls
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Graph, GraphSet, Op, Quantization, Shape, Signature, Tensor
from delegraph.core.model.external import external_data
from delegraph.core.model.model import Model
from delegraph.core.model.schema_table import ENUMS
from delegraph.core.model.table import Table

_CUSTOM = ENUMS["BuiltinOperator"]["CUSTOM"]


def build(model: Model) -> GraphSet:
    """The graphs of a model, tensor and op numbers as in the file.

    Raises:
        InvalidModel: a tensor type, quantization or graph structure that no TFLite runtime can execute.
    """
    graphs = tuple(_graph(model, index, table) for index, table in enumerate(model.subgraphs))
    if not graphs:
        raise InvalidModel("subgraphs", "at least one", "none", model.source)
    check_calls(graphs, model.source)
    return GraphSet(model.source, graphs, _signatures(model))


def _graph(model: Model, index: int, table: Table) -> Graph:
    place = f"subgraphs[{index}]"
    tensors = tuple(_tensor(model, i, tensor, f"{place}.tensors[{i}]") for i, tensor in enumerate(table.tensors or ()))
    ops = tuple(_op(model, i, op, f"{place}.operators[{i}]") for i, op in enumerate(table.operators or ()))
    graph = Graph(index, table.name or "", tensors, ops, _indices(table.inputs), _indices(table.outputs), (), ops)
    _check_order(graph, model.source)
    return graph


def _indices(vector: Any) -> tuple[int, ...]:
    return () if vector is None else tuple(vector.tolist())


def _tensor(model: Model, index: int, table: Table, place: str) -> Tensor:
    shape: Shape = _indices(table.shape)
    signature = _indices(table.shape_signature)
    data = external_data(model, table) if table.external_buffer else model.buffer_data(table.buffer)
    dtype = DType(table.type)
    return Tensor(
        index=index,
        name=table.name or "",
        dtype=dtype,
        shape=shape,
        shape_signature=_signature(shape, signature),
        has_shape_signature=len(signature) > 0,
        quantization=_quantization(table.quantization, len(shape), place, model.source),
        data=data if _is_constant(data, shape) and not table.is_variable else None,
        is_variable=bool(table.is_variable),
        sparsity=table.sparsity,
        buffer_index=table.buffer,
    )


def _is_constant(data: Any, shape: Shape) -> bool:
    """Whether a tensor has data: no bytes for some elements are none, as in TFLite."""
    return data is not None and (len(data) > 0 or 0 in shape)


_INT32 = np.iinfo(np.int32)


def _signature(shape: Shape, signature: Shape) -> Shape:
    """The shape with -1 where any size goes. Only the -1 of a signature count: some files say nonsense beside them."""
    if len(signature) != len(shape):
        return shape
    return tuple(-1 if unknown == -1 else size for size, unknown in zip(shape, signature, strict=True))


def _quantization(table: Table | None, rank: int, place: str, source: str) -> Quantization | None:
    if table is None:
        return None
    details = table.details
    block_size, block_scales = 0, -1
    if details is not None and details.type_name == "BlockwiseQuantization":
        block_size, block_scales = details.block_size, details.scales
    scales = table.scale
    if scales is None or len(scales) == 0:
        if not block_size:
            return None
        scales = np.zeros(0, np.float32)
    zero_points = table.zero_point
    if zero_points is None or len(zero_points) == 0:
        zero_points = np.zeros(len(scales), np.int64)
    if len(zero_points) == 1 and len(scales) > 1:
        zero_points = np.repeat(zero_points, len(scales))
    if len(zero_points) != len(scales):
        raise InvalidModel(f"{place}.quantization.zero_point", f"{len(scales)} values", f"{len(zero_points)}", source)
    wrong = [int(z) for z in zero_points if not _INT32.min <= z <= _INT32.max]
    if wrong:
        raise InvalidModel(f"{place}.quantization.zero_point", "values of 32 bits", str(wrong[0]), source)
    # A bias has one axis; some converters write the weights' axis there.
    axis = table.quantized_dimension if len(scales) > 1 and rank != 1 else 0
    return Quantization(np.asarray(scales), np.asarray(zero_points), axis, block_size, block_scales)


def _op(model: Model, index: int, table: Table, place: str) -> Op:
    code = model.operator_codes[table.opcode_index]
    custom = table.custom_options
    return Op(
        index=index,
        name=model.op_name(table),
        version=code.version,
        inputs=_indices(table.inputs),
        outputs=_indices(table.outputs),
        options=table.builtin_options if table.builtin_options is not None else table.builtin_options_2,
        custom_options=b"" if custom is None else custom.tobytes(),
        is_custom=model.builtin_code(table) == _CUSTOM,
        intermediates=_indices(table.intermediates),
        place=place,
    )


def _check_order(graph: Graph, source: str) -> None:
    """A tensor is made by one op at most, before any op reads it (TFLite executes ops in the file's order).

    A tensor that nothing makes is allowed, as in TFLite: it reads as zeros.
    """
    makers: dict[int, int] = {}
    for op in graph.ops:
        for slot, tensor in enumerate(op.outputs):
            if tensor in makers:
                raise InvalidModel(
                    f"{op.place}.outputs[{slot}]",
                    "a tensor that no other op makes",
                    f"tensor {tensor}",
                    source,
                )
            if tensor >= 0:
                makers[tensor] = op.index
    ready = set(graph.inputs)
    for op in graph.ops:
        for slot, tensor in enumerate(op.inputs):
            if makers.get(tensor, -1) >= op.index and tensor not in ready:
                raise InvalidModel(
                    f"{op.place}.inputs[{slot}]",
                    "a tensor that an earlier op makes",
                    f"tensor {tensor}",
                    source,
                )


def _signatures(model: Model) -> dict[str, Signature]:
    found: dict[str, Signature] = {}
    for table in model.signatures:
        found[table.signature_key or ""] = Signature(
            key=table.signature_key or "",
            graph=table.subgraph_index,
            inputs={m.name: m.tensor_index for m in table.inputs or ()},
            outputs={m.name: m.tensor_index for m in table.outputs or ()},
        )
    return found
