"""What the families' case generators share, and a case as a model of one op. Imports core.ops.opdef, core.model."""

from __future__ import annotations

from typing import Any

import numpy as np

from delegraph.core.graph.constants import encode_strings, pack
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization
from delegraph.core.model.model import Model
from delegraph.core.model.schema_table import ENUMS
from delegraph.core.model.table import Table
from delegraph.core.ops.opdef import Case, OpDef


def reals(rng: np.random.Generator, shape: Any, low: float = -4.0, high: float = 4.0) -> Array:
    """float32 values, uniform, in which a whole number or a zero turns up now and then."""
    x = np.asarray(rng.uniform(low, high, shape), np.float32)
    return np.where(rng.random(shape) < 0.1, np.rint(x), x).astype(np.float32)


def integers(
    rng: np.random.Generator, dtype: DType, shape: Any, low: int | None = None, high: int | None = None
) -> Array:
    """Integers of a type over its whole range, or in [low, high]; the ends turn up more often."""
    info = np.iinfo(dtype.numpy)
    low, high = (int(info.min) if low is None else low), (int(info.max) if high is None else high)
    x = rng.integers(low, high, shape, dtype.numpy, endpoint=True)
    ends = rng.random(shape)
    return np.asarray(np.where(ends < 0.03, low, np.where(ends > 0.97, high, x)), dtype.numpy)


def booleans(rng: np.random.Generator, shape: Any) -> Array:
    return np.asarray(rng.random(shape) < 0.5)


def quantized(
    rng: np.random.Generator,
    dtype: DType,
    shape: Any,
    *,
    scale: float | None = None,
    zero_point: int | None = None,
) -> tuple[Quantization, Array]:
    """A per-tensor quantization and values over the type's whole range."""
    scale = float(rng.uniform(0.002, 0.3)) if scale is None else scale
    if zero_point is None:
        zero_point = 0 if dtype is DType.INT16 else int(integers(rng, dtype, ()))
    return Quantization.per_tensor(scale, zero_point), integers(rng, dtype, shape)


def bias_for(rng: np.random.Generator, x: Quantization, w: Quantization, n: int) -> tuple[Array, Quantization]:
    """An int32 bias of ``n`` elements with the scales s_x · s_w that TFLite asks for."""
    scales = np.float32(x.scale) * np.asarray(w.scales, np.float32)
    return rng.integers(-20000, 20000, n).astype(np.int32), Quantization(scales, np.zeros(scales.size, np.int64))


def case_model(op: OpDef, case: Case, output_shapes: Any = None) -> Model:
    """A model of that one op: the case's constants inside, its other operands as inputs, in order.

    output_shapes: what to write as the outputs' shapes; a runtime computes its own, so [] does.
    """
    tensors: list[Table] = []
    buffers = [Table("Buffer")]
    inputs, slots = [], []
    for i, operand in enumerate(case.inputs):
        if operand is None:
            slots.append(-1)
            continue
        dtype = operand.dtype or DType.of(operand.data.dtype)
        buffer = 0
        if operand.constant:
            buffer = len(buffers)
            buffers.append(Table("Buffer", data=to_bytes(operand.data, dtype)))
        else:
            inputs.append(len(tensors))
        slots.append(len(tensors))
        shape = operand.data.shape if operand.shape is None else operand.shape
        table = tensor_table(f"input_{i}", dtype, shape, operand.quantization, buffer)
        tensors.append(table if operand.sparsity is None else table.replace(sparsity=operand.sparsity))
    outputs = []
    for i, result in enumerate(case.outputs):
        outputs.append(len(tensors))
        shape = () if output_shapes is None or output_shapes[i] is None else output_shapes[i]
        tensors.append(tensor_table(f"output_{i}", result.dtype, shape, result.quantization, 0))
    while slots and slots[-1] == -1:
        slots.pop()
    operator = Table(
        "Operator",
        opcode_index=0,
        inputs=np.array(slots, np.int32),
        outputs=np.array(outputs, np.int32),
        **options_fields(op, case),
    )
    subgraph = Table(
        "SubGraph",
        tensors=tuple(tensors),
        inputs=np.array(inputs, np.int32),
        outputs=np.array(outputs, np.int32),
        operators=(operator,),
        name="main",
    )
    root = Table(
        "Model",
        version=3,
        operator_codes=(operator_code(op, case.version or op.versions[0]),),
        subgraphs=(subgraph,),
        description="delegraph case",
        buffers=tuple(buffers),
    )
    return Model(root, f"{op.name}:{case.name}")


def options_fields(op: OpDef, case: Case) -> dict[str, Any]:
    """The Operator fields that hold a case's options."""
    from delegraph.core.model.schema_table import UNIONS

    if op.options is None:
        return {}
    table = Table(op.options, **case.options)
    field = "builtin_options" if op.options in UNIONS["BuiltinOptions"] else "builtin_options_2"
    return {field: table}


def operator_code(op: OpDef, version: int) -> Table:
    """The OperatorCode entry of an op (codes above 126 are stored as 127 in the old field)."""
    if op.is_custom:
        code = ENUMS["BuiltinOperator"]["CUSTOM"]
        return Table(
            "OperatorCode",
            deprecated_builtin_code=code,
            builtin_code=code,
            custom_code=op.name,
            version=version,
        )
    code = ENUMS["BuiltinOperator"][op.name]
    return Table("OperatorCode", deprecated_builtin_code=min(code, 127), builtin_code=code, version=version)


def tensor_table(name: str, dtype: DType, shape: Any, quantization: Quantization | None, buffer: int) -> Table:
    """A Tensor table of the schema."""
    fields: dict[str, Any] = {}
    if quantization is not None:
        fields["quantization"] = Table(
            "QuantizationParameters",
            scale=np.asarray(quantization.scales, np.float32),
            zero_point=np.asarray(quantization.zero_points, np.int64),
            quantized_dimension=quantization.axis,
        )
    return Table(
        "Tensor",
        name=name,
        type=dtype.value,
        shape=np.array(shape, np.int32),
        buffer=buffer,
        has_rank=True,
        **fields,
    )


def to_bytes(data: Array, dtype: DType) -> Array:
    """Constant data as a model's buffer holds it (uint8)."""
    if dtype is DType.STRING:
        return encode_strings(data)
    if dtype.bits in (2, 4):
        return pack(data, dtype)
    return np.ascontiguousarray(data).reshape(-1).view(np.uint8)
