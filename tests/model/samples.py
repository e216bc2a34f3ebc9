"""A small model, written by hand, with a bit of everything; tests change one thing of it at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tests.support import shared_path

from delegraph.core.model import Model, Table


def sample() -> Model:
    """Two subgraphs, a convolution, an IF, a custom op, a sparse constant, metadata and a signature."""
    tensors = (
        tensor("image", [1, 4, 4, 2], quantization=per_channel(1)),
        tensor("weights", [3, 1, 1, 2], type=9, buffer=1, quantization=per_channel(3)),
        tensor("bias", [3], type=2, buffer=2),
        tensor("features", [1, 4, 4, 3]),
        tensor("flag", [], type=6, has_rank=True),
        tensor("sparse", [2, 2], buffer=3, sparsity=sparse()),
        tensor("result", [1, 4, 4, 3], shape_signature=[-1, 4, 4, 3]),
    )
    operators = (
        Table(
            "Operator",
            inputs=[0, 1, 2],
            outputs=[3],
            builtin_options=Table("Conv2DOptions", stride_w=1, stride_h=1, fused_activation_function=1),
        ),
        Table(
            "Operator",
            opcode_index=1,
            inputs=[4, 3],
            outputs=[6],
            builtin_options=Table("IfOptions", then_subgraph_index=1, else_subgraph_index=1),
        ),
        Table("Operator", opcode_index=2, inputs=[3, -1], outputs=[6], custom_options=b"\x01\x02\x03"),
        Table("Operator", opcode_index=3, inputs=[3], outputs=[6], builtin_options_2=Table("DilateOptions")),
    )
    main = Table("SubGraph", name="main", tensors=tensors, inputs=[0, 4], outputs=[6], operators=operators)
    branch = Table("SubGraph", tensors=(tensor("x", [1, 4, 4, 3]),), inputs=[0], outputs=[0], operators=())
    codes = (
        Table("OperatorCode", deprecated_builtin_code=3, builtin_code=3),
        Table("OperatorCode", deprecated_builtin_code=118),
        Table("OperatorCode", deprecated_builtin_code=32, builtin_code=32, custom_code="Twice"),
        Table("OperatorCode", deprecated_builtin_code=127, builtin_code=203),
    )
    signature = Table(
        "SignatureDef",
        signature_key="serving_default",
        inputs=(Table("TensorMap", name="x", tensor_index=0),),
        outputs=(Table("TensorMap", name="y", tensor_index=6),),
    )
    return Model(
        Table(
            "Model",
            version=3,
            description="sample",
            operator_codes=codes,
            subgraphs=(main, branch),
            buffers=(
                Table("Buffer"),
                buffer(np.arange(6, dtype=np.int8)),
                buffer(np.arange(3, dtype=np.int32)),
                buffer(np.array([1.5, 2.5], np.float32)),
                buffer(np.frombuffer(b"1.14.0\0", np.uint8)),
            ),
            metadata=(Table("Metadata", name="min_runtime_version", buffer=4),),
            signature_defs=(signature,),
        )
    )


def model_files() -> list[Path]:
    """Every model file of the shared folder, test data broken on purpose included; [] without the folder."""
    real = shared_path() / "models" / "real"
    return sorted(path for path in real.rglob("*") if path.suffix in (".tflite", ".bin", ".lite"))


def tensor(name: str, shape: list[int], **fields: Any) -> Table:
    return Table("Tensor", name=name, shape=shape, **fields)


def buffer(values: np.ndarray) -> Table:
    return Table("Buffer", data=values.tobytes())


def per_channel(n: int) -> Table:
    return Table("QuantizationParameters", scale=[0.25] * n, zero_point=[0] * n)


def sparse() -> Table:
    """The structure of [[a, 0], [0, b]]: rows dense, columns compressed."""
    return Table(
        "SparsityParameters",
        traversal_order=[0, 1],
        dim_metadata=(
            Table("DimensionMetadata", dense_size=2),
            Table(
                "DimensionMetadata",
                format=1,
                array_segments=Table("Uint8Vector", values=[0, 1, 2]),
                array_indices=Table("Int32Vector", values=[0, 1]),
            ),
        ),
    )


def changed(value: Any, path: str, new: Any) -> Any:
    """A copy of a Table (or tuple of Tables) with the value at path replaced: ``subgraphs[0].operators[2]``.

    An element of a vector is replaced by ``shape[1]`` in the same way.
    """
    step, _, rest = path.removeprefix(".").replace("[", ".[").removeprefix(".").partition(".")
    rest = rest.replace(".[", "[")
    if step.startswith("["):
        index = int(step[1:-1])
        items = list(value)
        items[index] = changed(items[index], rest, new) if rest else new
        return np.array(items, value.dtype) if isinstance(value, np.ndarray) else tuple(items)
    return value.replace(**{step: changed(getattr(value, step), rest, new) if rest else new})
