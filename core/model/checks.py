"""The rules between tables of a model: every index, shape and size that later steps rely on.

``check`` runs after the FlatBuffer is decoded. It is as strict as LiteRT's loader, or laxer where older
versions load a file that is in use. Source: LiteRT 2.3.0, tflite/core/interpreter_builder.cc.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np

from delegraph.core.errors import InvalidModel
from delegraph.core.model.malformed import Malformed
from delegraph.core.model.model import Model, builtin_code
from delegraph.core.model.schema_table import ENUMS, TABLES, UNIONS
from delegraph.core.model.table import Table

VERSION = 3
MAX_RANK = 64  # NumPy's; LiteRT's kernels stop far below
_TENSOR_BITS = {
    "FLOAT32": 32, "FLOAT16": 16, "INT32": 32, "UINT8": 8, "INT64": 64, "BOOL": 8, "INT16": 16,
    "COMPLEX64": 64, "INT8": 8, "FLOAT64": 64, "COMPLEX128": 128, "UINT64": 64, "UINT32": 32, "UINT16": 16,
    "INT4": 4, "BFLOAT16": 16, "INT2": 2, "UINT4": 4, "FLOAT8_E4M3FN": 8, "FLOAT8_E5M2": 8,
}  # fmt: skip
# By number; None: the size depends on the content (STRING, RESOURCE, VARIANT).
_BITS = {number: _TENSOR_BITS.get(name) for name, number in ENUMS["TensorType"].items()}
_DENSE = ENUMS["DimensionType"]["DENSE"]


def check(model: Model) -> None:
    """Raises InvalidModel for the first rule between tables that the model breaks."""
    try:
        _Checker(model).model()
    except Malformed as bad:
        raise InvalidModel(bad.place.removeprefix("."), bad.expected, bad.found, model.source) from None


def _index(place: str, what: str, value: int, low: int, high: int) -> None:
    if not low <= value < high:
        raise Malformed(f"{what} in [{low}, {high})", value, place)


def _indices(place: str, what: str, vectors: Sequence[np.ndarray | None], low: int, high: int) -> None:
    """Check all elements of all vectors at once; "{}" in place stands for the number of the vector."""
    present = [(i, vector) for i, vector in enumerate(vectors) if vector is not None]
    if not present:
        return
    values = np.concatenate([vector for _, vector in present])
    bad = (values < low) | (values >= high)
    if bad.any():
        first = int(bad.argmax())
        ends = list(accumulate(vector.size for _, vector in present))
        which = next(k for k, end in enumerate(ends) if first < end)
        i, vector = present[which]
        element = first - (ends[which] - vector.size)
        raise Malformed(f"{what} in [{low}, {high})", vector[element], f"{place.format(i)}[{element}]")


class _Checker:
    def __init__(self, subject: Model) -> None:
        self.subject = subject
        self.n_buffers = len(subject.buffers)
        self.buffer_data = [None, *(buffer.data for buffer in subject.buffers[1:])]
        self.n_subgraphs = len(subject.subgraphs)
        self.n_codes = len(subject.operator_codes)
        self.external_ids: set[int] = set()

    def model(self) -> None:
        root = self.subject.root
        if root.version != VERSION:
            raise Malformed(f"schema version {VERSION}", root.version, ".version")
        if not self.subject.subgraphs:
            raise Malformed("at least one subgraph", 0, ".subgraphs")
        for i, code in enumerate(self.subject.operator_codes):
            if builtin_code(code) < 0:
                place = f".operator_codes[{i}].builtin_code"
                raise Malformed("a code of at least 0", builtin_code(code), place)
        _indices(".metadata_buffer", "a buffer index", [root.metadata_buffer], 0, self.n_buffers)
        for i, entry in enumerate(root.metadata or ()):
            _index(f".metadata[{i}].buffer", "a buffer index", entry.buffer, 0, self.n_buffers)
        self.external_buffers()
        for i, subgraph in enumerate(self.subject.subgraphs):
            try:
                self.subgraph(subgraph)
            except Malformed as bad:
                raise bad.under(f".subgraphs[{i}]") from None
        for i, signature in enumerate(self.subject.signatures):
            self.signature(f".signature_defs[{i}]", signature)

    def external_buffers(self) -> None:
        n_groups = len(self.subject.root.external_buffer_groups or ())
        for i, buffer in enumerate(self.subject.root.external_buffers or ()):
            place = f".external_buffers[{i}]"
            _index(f"{place}.group", "a group index", buffer.group, 0, n_groups)
            if buffer.id in self.external_ids:
                raise Malformed("an id of its own", buffer.id, f"{place}.id")
            self.external_ids.add(buffer.id)

    def signature(self, place: str, signature: Table) -> None:
        index = signature.subgraph_index
        _index(f"{place}.subgraph_index", "a subgraph index", index, 0, self.n_subgraphs)
        n_tensors = len(self.subject.subgraphs[index].tensors or ())
        for name in ("inputs", "outputs"):
            for i, entry in enumerate(getattr(signature, name) or ()):
                where = f"{place}.{name}[{i}].tensor_index"
                _index(where, "a tensor index", entry.tensor_index, 0, n_tensors)

    def subgraph(self, subgraph: Table) -> None:
        tensors, operators = subgraph.tensors or (), subgraph.operators or ()
        n_tensors = len(tensors)
        _indices(".inputs", "a tensor index", [subgraph.inputs], 0, n_tensors)
        _indices(".outputs", "a tensor index", [subgraph.outputs], 0, n_tensors)
        _indices(".tensors[{}].shape", "a size", [tensor.shape for tensor in tensors], 0, 2**31)
        for i, tensor in enumerate(tensors):
            try:
                self.tensor(tensor, n_tensors)
            except Malformed as bad:
                raise bad.under(f".tensors[{i}]") from None
        # -1 leaves an optional tensor out.
        for name, low in (("inputs", -1), ("outputs", 0), ("intermediates", -1)):
            vectors = [getattr(op, name) for op in operators]
            _indices(f".operators[{{}}].{name}", "a tensor index", vectors, low, n_tensors)
        for i, op in enumerate(operators):
            try:
                self.operator(op)
            except Malformed as bad:
                raise bad.under(f".operators[{i}]") from None

    def operator(self, op: Table) -> None:
        _index(".opcode_index", "an operator code index", op.opcode_index, 0, self.n_codes)
        for union in ("builtin_options", "builtin_options_2"):
            options = getattr(op, union)
            if options is None or options.type_name not in _SUBGRAPH_FIELDS:
                continue
            for name in _SUBGRAPH_FIELDS[options.type_name]:
                value = getattr(options, name)
                if isinstance(value, int):
                    _index(f".{union}.{name}", "a subgraph index", value, 0, self.n_subgraphs)
                else:
                    _indices(f".{union}.{name}", "a subgraph index", [value], 0, self.n_subgraphs)

    def tensor(self, tensor: Table, n_tensors: int) -> None:
        if tensor.type not in _BITS:
            raise Malformed(f"a tensor type in [0, {len(_BITS)})", tensor.type, ".type")
        data = None
        if tensor.buffer:  # 0 is "no data", even in files without any buffers
            _index(".buffer", "a buffer index", tensor.buffer, 0, self.n_buffers)
            data = self.buffer_data[tensor.buffer]
        if tensor.external_buffer and tensor.external_buffer not in self.external_ids:
            raise Malformed("the id of an external buffer", tensor.external_buffer, ".external_buffer")
        shape = _list(tensor.shape)
        if len(shape) > MAX_RANK:
            raise Malformed(f"at most {MAX_RANK} dimensions", len(shape), ".shape")
        if tensor.quantization is not None:
            _check_quantization(tensor.quantization, shape, n_tensors)
        bits = _BITS[tensor.type]
        n_elements = math.prod(shape)
        if n_elements * (bits or 1) >= 2**63:
            raise Malformed("less than 2**63 bits", f"shape {shape}", ".shape")
        if tensor.sparsity is not None:
            try:
                n_elements = _check_sparsity(tensor.sparsity, shape)
            except Malformed as bad:
                raise bad.under(".sparsity") from None
        if data is not None and data.size and bits is not None:
            size_bytes = (n_elements * bits + 7) // 8
            if data.size != size_bytes:
                raise Malformed(f"{size_bytes} bytes for shape {shape}", f"{data.size} bytes", ".buffer")


def _check_quantization(quantization: Table, shape: list[int], n_tensors: int) -> None:
    details = quantization.details
    if details is not None:
        if details.type_name != "CustomQuantization":
            place = ".quantization.details"
            _index(f"{place}.scales", "a tensor index", details.scales, 0, n_tensors)
            _index(f"{place}.zero_points", "a tensor index", details.zero_points, -1, n_tensors)
        return
    n_scales = _size(quantization.scale)
    if not n_scales:
        return
    if _size(quantization.zero_point) != n_scales:
        found = _size(quantization.zero_point)
        raise Malformed(f"as many as scales ({n_scales})", found, ".quantization.zero_point")
    # Where only one dimension is possible, files in use name another: a bias carries its weights' dimension.
    if n_scales > 1 and shape:
        axis = quantization.quantized_dimension if len(shape) > 1 else 0
        _index(".quantization.quantized_dimension", "a dimension", axis, 0, len(shape))
        if shape[axis] != n_scales:
            raise Malformed(f"{shape[axis]} scales for dimension {axis}", n_scales, ".quantization.scale")


def _check_sparsity(sparsity: Table, shape: list[int]) -> int:
    """Check a sparse tensor's index structure; return how many values it stores.

    Source: schema.fbs of TFLite, table SparsityParameters (TACO's format): dimensions are walked in traversal
    order, those from rank on being the blocks of the ones that block_map names.
    """
    order = _list(sparsity.traversal_order)
    block_map = _list(sparsity.block_map)
    levels = sparsity.dim_metadata or ()
    if len(block_map) > MAX_RANK:
        raise Malformed(f"at most {MAX_RANK} blocks", len(block_map), ".block_map")
    n_dims = len(shape) + len(block_map)
    if sorted(order) != list(range(n_dims)):
        raise Malformed(f"dimensions 0 to {n_dims - 1} in some order", order[:8], ".traversal_order")
    if len(levels) != n_dims:
        raise Malformed(f"{n_dims} dimensions", len(levels), ".dim_metadata")
    _indices(".block_map", "a dimension", [sparsity.block_map], 0, len(shape))
    sizes = _sparse_sizes(levels, order, shape, block_map)
    n_stored = 1
    for i, (level, dimension) in enumerate(zip(levels, order, strict=True)):
        place = f".dim_metadata[{i}]"
        if level.format == _DENSE:
            if level.dense_size != sizes[dimension]:
                raise Malformed(str(sizes[dimension]), level.dense_size, f"{place}.dense_size")
            n_stored *= level.dense_size
            continue
        segments, indices = _values(level.array_segments), _values(level.array_indices)
        if segments.size != n_stored + 1:
            raise Malformed(f"{n_stored + 1} segments", segments.size, f"{place}.array_segments")
        if segments[0] != 0 or segments[-1] != indices.size or (segments[1:] < segments[:-1]).any():
            raise Malformed(f"values that rise from 0 to {indices.size}", "others", f"{place}.array_segments")
        _indices(f"{place}.array_indices", "a coordinate", [indices], 0, sizes[dimension])
        n_stored = indices.size
    return n_stored


def _sparse_sizes(levels: Sequence[Table], order: list[int], shape: list[int], block_map: list[int]) -> list[int]:
    """Sizes of the dimensions, those of blocks last; a blocked dimension counts blocks."""
    sizes = list(shape)
    for k, blocked in enumerate(block_map):
        level = order.index(len(shape) + k)
        block = levels[level].dense_size
        if block < 1 or sizes[blocked] % block:
            raise Malformed(f"a divisor of {sizes[blocked]}", block, f".dim_metadata[{level}].dense_size")
        sizes[blocked] //= block
        sizes.append(block)
    return sizes


def _subgraph_fields() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Options that call subgraphs, and their fields that say which."""
    for table in (*UNIONS["BuiltinOptions"], *UNIONS["BuiltinOptions2"]):
        names = tuple(name for name in TABLES[table] if "subgraph" in name)
        if names:
            yield table, names


_SUBGRAPH_FIELDS = dict(_subgraph_fields())


def _list(vector: np.ndarray | None) -> list[int]:
    return [] if vector is None else vector.tolist()


def _size(vector: np.ndarray | None) -> int:
    return 0 if vector is None else vector.size


def _values(table: Table | None) -> np.ndarray:
    """The values of a sparse index vector, as int64 so that they can be compared and subtracted."""
    values = None if table is None else table.values
    return np.empty(0, np.int64) if values is None else values.astype(np.int64)
