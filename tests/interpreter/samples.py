"""Small models for the interpreter's tests, made with delegraph's own writer: one per trait that a script looks at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from delegraph.core.graph.constants import encode_strings
from delegraph.core.graph.dtype import DType
from delegraph.core.model.model import Model
from delegraph.core.model.schema_table import ENUMS
from delegraph.core.model.table import Table
from delegraph.core.model.writer import write

_CODES = ENUMS["BuiltinOperator"]


class _Builder:
    """Collects the tables of a model of one or several subgraphs."""

    def __init__(self) -> None:
        self.buffers = [Table("Buffer")]
        self.codes: list[Table] = []
        self.graphs: list[Table] = []
        self.signatures: list[Table] = []

    def data(self, values: Any) -> int:
        raw = values if isinstance(values, bytes) else np.asarray(values).tobytes()
        self.buffers.append(Table("Buffer", data=raw))
        return len(self.buffers) - 1

    def op(self, name: str, inputs: list[int], outputs: list[int], version: int = 1, **fields: Any) -> Table:
        code = _CODES.get(name, _CODES["CUSTOM"])
        custom = {} if name in _CODES else {"custom_code": name}
        self.codes.append(
            Table(
                "OperatorCode",
                deprecated_builtin_code=min(code, 127),
                builtin_code=code,
                version=version,
                **custom,
            )
        )
        return Table("Operator", opcode_index=len(self.codes) - 1, inputs=inputs, outputs=outputs, **fields)

    def graph(self, tensors: Sequence[Table], inputs: list[int], outputs: list[int], ops: Sequence[Table] = ()) -> None:
        self.graphs.append(
            Table(
                "SubGraph",
                name="main",
                tensors=tuple(tensors),
                inputs=inputs,
                outputs=outputs,
                operators=tuple(ops),
            )
        )

    def signature(self, key: str, inputs: dict[str, int], outputs: dict[str, int], graph: int = 0) -> None:
        def maps(names: dict[str, int]) -> tuple[Table, ...]:
            return tuple(Table("TensorMap", name=name, tensor_index=index) for name, index in names.items())

        self.signatures.append(
            Table(
                "SignatureDef",
                signature_key=key,
                inputs=maps(inputs),
                outputs=maps(outputs),
                subgraph_index=graph,
            )
        )

    def write(self) -> bytes:
        return write(
            Model(
                Table(
                    "Model",
                    version=3,
                    operator_codes=tuple(self.codes),
                    subgraphs=tuple(self.graphs),
                    buffers=tuple(self.buffers),
                    signature_defs=tuple(self.signatures),
                )
            )
        )


def _tensor(name: str, shape: list[int], dtype: DType = DType.FLOAT32, **fields: Any) -> Table:
    return Table("Tensor", name=name, shape=shape, type=dtype.value, **fields)


def _quantized(scales: list[float], zero_points: list[int], axis: int = 0) -> Table:
    return Table("QuantizationParameters", scale=scales, zero_point=zero_points, quantized_dimension=axis)


_ADD = Table("AddOptions")
_MUL = Table("MulOptions")


def plain() -> bytes:
    """x[2, 3] + [10, 20, 30] = sum; (sum * sum) = square; outputs sum and square; one constant, one intermediate."""
    b = _Builder()
    tensors = [
        _tensor("x", [2, 3]),
        _tensor("c", [3], buffer=b.data(np.array([10, 20, 30], np.float32))),
        _tensor("sum", [2, 3]),
        _tensor("square", [2, 3]),
        _tensor("between", [2, 3]),
    ]
    ops = [
        b.op("ADD", [0, 1], [2], builtin_options=_ADD),
        b.op("MUL", [2, 2], [4], builtin_options=_MUL),
        b.op("ADD", [4, 2], [3], builtin_options=_ADD),
    ]
    b.graph(tensors, [0], [3, 2], ops)
    return b.write()


def unknown_sizes() -> bytes:
    """y = x + x of [?, 3], with the unknown size in shape_signature; and a signature."""
    b = _Builder()
    tensors = [_tensor(n, [1, 3], shape_signature=[-1, 3]) for n in ("x", "y")]
    b.graph(tensors, [0], [1], [b.op("ADD", [0, 0], [1], builtin_options=_ADD)])
    b.signature("serving_default", {"x": 0}, {"y": 1})
    return b.write()


def scalar() -> bytes:
    """y = x + x without dimensions."""
    b = _Builder()
    tensors = [_tensor(n, [], has_rank=True) for n in ("x", "y")]
    b.graph(tensors, [0], [1], [b.op("ADD", [0, 0], [1], builtin_options=_ADD)])
    return b.write()


def quantized_chain() -> bytes:
    """int8: a = x + x, b = a * x, y = b + a, every tensor with its own quantization."""
    b = _Builder()
    int8 = DType.INT8
    tensors = [
        _tensor("x", [2, 4], int8, quantization=_quantized([0.5], [3])),
        _tensor("a", [2, 4], int8, quantization=_quantized([0.75], [-5])),
        _tensor("b", [2, 4], int8, quantization=_quantized([12.5], [7])),
        _tensor("y", [2, 4], int8, quantization=_quantized([13.0], [0])),
    ]
    ops = [
        b.op("ADD", [0, 0], [1], 2, builtin_options=_ADD),
        b.op("MUL", [1, 0], [2], 2, builtin_options=_MUL),
        b.op("ADD", [2, 1], [3], 2, builtin_options=_ADD),
    ]
    b.graph(tensors, [0], [3], ops)
    return b.write()


def descriptions() -> bytes:
    """A tensor for everything that a details dictionary can say; x + x = y is all that runs."""
    b = _Builder()
    quantized, int8 = _quantized, DType.INT8
    sparse = Table(
        "SparsityParameters",
        traversal_order=[0, 1, 2, 3],
        block_map=[0, 1],
        dim_metadata=(
            Table("DimensionMetadata", dense_size=2),
            Table(
                "DimensionMetadata",
                format=1,
                array_segments=Table("Uint8Vector", values=[0, 1, 2]),
                array_indices=Table("Uint16Vector", values=[0, 1]),
            ),
            Table("DimensionMetadata", dense_size=2),
            Table("DimensionMetadata", dense_size=1),
        ),
    )
    signs = np.arange(6, dtype=np.int8)
    tensors = [
        _tensor("x", [2, 3]),
        _tensor("y", [2, 3]),
        _tensor("per_tensor", [2, 3], int8, quantization=quantized([0.1], [-7]), buffer=b.data(signs)),
        _tensor("axis_of_one_scale", [2, 3], int8, quantization=quantized([0.1], [5], 1), buffer=b.data(signs)),
        _tensor("channels_first", [2, 3], int8, quantization=quantized([0.1, 0.2], [0, 0])),
        _tensor("channels_last", [2, 3], int8, quantization=quantized([0.1, 0.2, 0.3], [1, -2, 3], 1)),
        _tensor("same_zeros", [2, 3], int8, quantization=quantized([0.1, 0.2, 0.3], [4, 4, 4], 1)),
        _tensor("range_only", [2, 3], quantization=Table("QuantizationParameters", min=[-1.0], max=[2.0])),
        _tensor("int4", [5], DType.INT4, buffer=b.data(np.array([0x21, 0xF3, 0x08], np.uint8))),
        _tensor("uint4", [4], DType.UINT4, buffer=b.data(np.array([0x21, 0xF3], np.uint8))),
        _tensor("int2", [8], DType.INT2, buffer=b.data(np.array([0xE4, 0x1B], np.uint8))),
        _tensor("sparse", [4, 2], buffer=b.data(np.array([1, 2, 3, 4], np.float32)), sparsity=sparse),
        _tensor("strings", [2], DType.STRING, buffer=b.data(encode_strings(np.array([b"ab", b""], object)))),
        _tensor("constant_with_signature", [2], shape_signature=[-1], buffer=b.data(np.ones(2, np.float32))),
        _tensor("constant_scalar", [], buffer=b.data(np.array(7, np.float32))),
        _tensor("", [3], buffer=b.data(np.ones(3, np.float32))),
        _tensor("empty", [0, 3]),
        _tensor("signature", [1, 1, 4], shape_signature=[-1, -1, 4]),
        _tensor("float16", [2], DType.FLOAT16, buffer=b.data(np.array([0.5, -2], np.float16))),
        _tensor("bool", [2], DType.BOOL, buffer=b.data(np.array([True, False]))),
        _tensor("int64", [1], DType.INT64, buffer=b.data(np.array([-(2**40)], np.int64))),
        _tensor("complex64", [1], DType.COMPLEX64, buffer=b.data(np.array([1 - 2j], np.complex64))),
        _tensor("float64", [1], DType.FLOAT64),
        _tensor("uint64", [1], DType.UINT64),
        _tensor("uint32", [1], DType.UINT32),
        _tensor("uint16", [1], DType.UINT16),
        _tensor("int16", [1], DType.INT16),
        _tensor("uint8", [1], DType.UINT8),
        _tensor("complex128", [1], DType.COMPLEX128),
        _tensor("resource", [1], DType.RESOURCE),
        _tensor("variant", [1], DType.VARIANT),
        _tensor("float8", [2], DType.FLOAT8_E4M3FN, buffer=b.data(np.array([1, 200], np.uint8))),
        _tensor("block_scales", [2, 2], DType.FLOAT16, buffer=b.data(np.array([1, 2, 3, 4], np.float16))),
        _tensor(
            "blockwise",
            [2, 64],
            DType.INT4,
            buffer=b.data(np.zeros(64, np.uint8)),
            quantization=Table(
                "QuantizationParameters",
                details=Table("BlockwiseQuantization", scales=32, zero_points=-1, block_size=32),
            ),
        ),
    ]
    b.graph(tensors, [0], [1], [b.op("ADD", [0, 0], [1], builtin_options=_ADD)])
    return b.write()


def four_bits() -> bytes:
    """An int4 and a uint4 input that are the outputs, too."""
    b = _Builder()
    tensors = [
        _tensor("signed", [5], DType.INT4),
        _tensor("unsigned", [2, 2], DType.UINT4),
        _tensor("x", [1]),
        _tensor("y", [1]),
    ]
    b.graph(tensors, [0, 1, 2], [0, 1, 3], [b.op("ADD", [2, 2], [3], builtin_options=_ADD)])
    return b.write()


def signatures() -> bytes:
    """Two graphs with one signature each, keys and names not in alphabetical order: sum and difference, product."""
    b = _Builder()
    both = [_tensor(n, [2]) for n in ("first", "second", "sum", "difference")]
    ops = [
        b.op("ADD", [0, 1], [2], builtin_options=_ADD),
        b.op("SUB", [0, 1], [3], builtin_options=Table("SubOptions")),
    ]
    b.graph(both, [0, 1], [2, 3], ops)
    product = [_tensor(n, [1, 2], shape_signature=[-1, 2]) for n in ("u", "v", "w")]
    b.graph(product, [0, 1], [2], [b.op("MUL", [0, 1], [2], builtin_options=_MUL)])
    b.signature("z_both", {"q": 0, "p": 1}, {"s": 2, "d": 3})
    b.signature("a_product", {"v": 1, "u": 0}, {"w": 2}, 1)
    return b.write()


def custom_op() -> bytes:
    """A custom op that nobody knows, behind an ADD."""
    b = _Builder()
    tensors = [_tensor(n, [2]) for n in ("x", "y", "z")]
    ops = [b.op("ADD", [0, 0], [1], builtin_options=_ADD), b.op("NobodyKnowsMe", [1, -1], [2])]
    b.graph(tensors, [0], [2], ops)
    return b.write()


def missing_builtin() -> bytes:
    """A builtin operator without a kernel anywhere."""
    b = _Builder()
    b.graph([_tensor("x", [2]), _tensor("y", [2])], [0], [1], [b.op("STABLEHLO_COSINE", [0], [1])])
    return b.write()


def mismatch() -> bytes:
    """ADD of [2] and [3], which do not broadcast; and with the right sizes after a resize of the second."""
    b = _Builder()
    tensors = [_tensor("a", [2]), _tensor("b", [3]), _tensor("c", [3])]
    b.graph(tensors, [0, 1], [2], [b.op("ADD", [0, 1], [2], builtin_options=_ADD)])
    return b.write()


def data_dependent() -> bytes:
    """unique(x) and its indices, then values + values: shapes that only a run knows."""
    b = _Builder()
    tensors = [
        _tensor("x", [4]),
        _tensor("values", [0]),
        _tensor("indices", [4], DType.INT32),
        _tensor("twice", [0]),
    ]
    ops = [
        b.op("UNIQUE", [0], [1, 2], builtin_options=Table("UniqueOptions", idx_out_type=DType.INT32.value)),
        b.op("ADD", [1, 1], [3], builtin_options=_ADD),
    ]
    b.graph(tensors, [0], [3, 2], ops)
    return b.write()


def gather() -> bytes:
    """table[i]: fails in a run when the index is out of range."""
    b = _Builder()
    tensors = [
        _tensor("table", [3], buffer=b.data(np.array([5, 6, 7], np.float32))),
        _tensor("i", [1], DType.INT32),
        _tensor("y", [1]),
    ]
    b.graph(tensors, [1], [2], [b.op("GATHER", [0, 1], [2], builtin_options=Table("GatherOptions"))])
    return b.write()


def reshape_strings() -> bytes:
    """Strings [2, 2] → [4]."""
    b = _Builder()
    tensors = [
        _tensor("x", [2, 2], DType.STRING),
        _tensor("shape", [1], DType.INT32, buffer=b.data(np.array([4], np.int32))),
        _tensor("y", [4], DType.STRING),
    ]
    b.graph(tensors, [0], [2], [b.op("RESHAPE", [0, 1], [2], builtin_options=Table("ReshapeOptions"))])
    return b.write()


def one_string() -> bytes:
    """A string without dimensions that is the output, too; and x + x = y, so that there is something to run."""
    b = _Builder()
    tensors = [_tensor("text", [], DType.STRING, has_rank=True), _tensor("x", [1]), _tensor("y", [1])]
    b.graph(tensors, [0, 1], [0, 2], [b.op("ADD", [1, 1], [2], builtin_options=_ADD)])
    return b.write()


def no_hits() -> bytes:
    """where(x): as many rows as x has truths."""
    b = _Builder()
    tensors = [_tensor("x", [2], DType.BOOL), _tensor("rows", [0, 1], DType.INT64)]
    b.graph(tensors, [0], [1], [b.op("WHERE", [0], [1])])
    return b.write()


def bfloat16() -> bytes:
    """A bfloat16 constant that nobody reads; x + x = y."""
    b = _Builder()
    tensors = [
        _tensor("x", [1]),
        _tensor("y", [1]),
        _tensor("constant", [2], DType.BFLOAT16, buffer=b.data(np.array([1, 2], np.uint16))),
    ]
    b.graph(tensors, [0], [1], [b.op("ADD", [0, 0], [1], builtin_options=_ADD)])
    return b.write()


def filter_state() -> bytes:
    """SVDF of one filter and memory 3: y[t] = 1·x[t-2] + 2·x[t-1] + 3·x[t], whose past is a variable tensor."""
    b = _Builder()
    tensors = [
        _tensor("x", [1, 1]),
        _tensor("weights_feature", [1, 1], buffer=b.data(np.ones((1, 1), np.float32))),
        _tensor("weights_time", [1, 3], buffer=b.data(np.array([[1, 2, 3]], np.float32))),
        _tensor("state", [1, 3], is_variable=True),
        _tensor("y", [1, 1]),
    ]
    options = Table("SVDFOptions", rank=1)
    b.graph(tensors, [0], [4], [b.op("SVDF", [0, 1, 2, -1, 3], [4], builtin_options=options)])
    return b.write()


MODELS = {
    function.__name__: function
    for function in (
        plain,
        unknown_sizes,
        scalar,
        quantized_chain,
        descriptions,
        four_bits,
        signatures,
        custom_op,
        missing_builtin,
        mismatch,
        data_dependent,
        gather,
        reshape_strings,
        one_string,
        no_hits,
        bfloat16,
        filter_state,
    )
}


def write_all(folder: Path) -> Path:
    """Writes every model as <name>.tflite, and files that are none."""
    for name, make in MODELS.items():
        (folder / f"{name}.tflite").write_bytes(make())
    (folder / "garbage.tflite").write_bytes(b"age limit of a garbage file: none" * 20)
    (folder / "empty.tflite").write_bytes(b"")
    (folder / "cut.tflite").write_bytes((folder / "plain.tflite").read_bytes()[:300])
    return folder
