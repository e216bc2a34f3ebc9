"""Part of a model as a model of its own: some ops of one subgraph, with what they need. Imports core.model.

Serves the op-by-op oracle, and whoever hands a segment to a stranger as ``.tflite``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from delegraph.core.errors import InvalidArgument
from delegraph.core.model.model import Model
from delegraph.core.model.table import Table

_GRAPH_OPTIONS = (
    "then_subgraph_index",
    "else_subgraph_index",
    "cond_subgraph_index",
    "body_subgraph_index",
    "init_subgraph_index",
    "decomposition_subgraph_index",
)


def extract(
    model: Model,
    subgraph: int,
    operators: Sequence[int],
    inputs: Sequence[int],
    outputs: Sequence[int],
    shapes: Mapping[int, Sequence[int]] | None = None,
) -> Model:
    """A model whose one subgraph has these operators of ``model``, in this order.

    Tensors and buffers are renumbered to those in use; quantization, sparsity and options stay as they are. Tensors in
    ``inputs`` lose their constant data, if any. shapes: tensor → a shape to write in place of the file's.

    Raises:
        InvalidArgument: an operator that calls other subgraphs.
    """
    source = model.subgraphs[subgraph]
    chosen = [source.operators[i] for i in operators]
    for operator in chosen:
        options = operator.builtin_options or operator.builtin_options_2
        if options is not None and any(name in dict(options) for name in _GRAPH_OPTIONS):
            raise InvalidArgument("extract", "operators without subgraphs", model.op_name(operator))
    used = _in_order(
        list(inputs), *(list(o.inputs if o.inputs is not None else ()) for o in chosen),
        *(list(o.outputs if o.outputs is not None else ()) for o in chosen),
        *(list(o.intermediates if o.intermediates is not None else ()) for o in chosen), list(outputs),
    )  # fmt: skip
    used += [i for i in _blockwise_tensors(source, used) if i not in used]
    number = {old: new for new, old in enumerate(used)}
    number[-1] = -1
    buffers = [Table("Buffer")]
    tensors = []
    for old in used:
        tensor = source.tensors[old]
        data = model.buffer_data(tensor.buffer)
        keep = data is not None and old not in inputs
        changes = {"buffer": len(buffers) if keep else 0}
        if keep:
            buffers.append(Table("Buffer", data=data))
        if shapes is not None and old in shapes:
            tensor = _with_shape(tensor, shapes[old])
        tensors.append(_renumber_blockwise(tensor.replace(**changes), number))
    codes = _in_order([o.opcode_index for o in chosen])
    root = Table(
        "Model",
        version=3,
        operator_codes=tuple(model.operator_codes[i] for i in codes),
        subgraphs=(
            Table(
                "SubGraph",
                tensors=tuple(tensors),
                inputs=_numbers(inputs, number),
                outputs=_numbers(outputs, number),
                operators=tuple(_renumber(o, number, codes.index(o.opcode_index)) for o in chosen),
                name=source.name,
            ),
        ),
        description=f"part of {model.source}",
        buffers=tuple(buffers),
    )
    return Model(root, model.source, model.directory)


def as_main(model: Model, subgraph: int) -> Model:
    """The same model with another subgraph as the main one (the two swap places; signatures are dropped)."""
    if subgraph == 0:
        return model
    order = list(range(len(model.subgraphs)))
    order[0], order[subgraph] = subgraph, 0
    subgraphs = tuple(
        table.replace(operators=tuple(_redirect(o, order) for o in table.operators or ()))
        for table in (model.subgraphs[i] for i in order)
    )
    return Model(model.root.replace(subgraphs=subgraphs, signature_defs=None), model.source, model.directory)


def _redirect(operator: Table, order: Sequence[int]) -> Table:
    for union in ("builtin_options", "builtin_options_2"):
        options = getattr(operator, union)
        if options is None:
            continue
        changes = {name: order.index(value) for name, value in options if name in _GRAPH_OPTIONS}
        if changes:
            operator = operator.replace(**{union: options.replace(**changes)})
    return operator


def _in_order(*lists: Sequence[int]) -> list[int]:
    return list(dict.fromkeys(int(i) for part in lists for i in part if i >= 0))


def _numbers(old: Sequence[int], number: Mapping[int, int]) -> np.ndarray:
    return np.array([number[int(i)] for i in old], np.int32)


def _renumber(operator: Table, number: Mapping[int, int], opcode_index: int) -> Table:
    changes = {
        name: _numbers(getattr(operator, name), number)
        for name in ("inputs", "outputs", "intermediates")
        if getattr(operator, name) is not None
    }
    return operator.replace(opcode_index=opcode_index, **changes)


def _with_shape(tensor: Table, shape: Sequence[int]) -> Table:
    return tensor.replace(shape=np.array(shape, np.int32), shape_signature=None)


def _blockwise_tensors(subgraph: Table, used: Sequence[int]) -> list[int]:
    """Tensors that hold scales and zero points of blockwise weights."""
    found = []
    for i in used:
        quantization = subgraph.tensors[i].quantization
        details = quantization.details if quantization is not None else None
        if details is not None and details.type_name == "BlockwiseQuantization":
            found += [t for t in (details.scales, details.zero_points) if t >= 0]
    return found


def _renumber_blockwise(tensor: Table, number: Mapping[int, int]) -> Table:
    quantization = tensor.quantization
    details = quantization.details if quantization is not None else None
    if details is None or details.type_name != "BlockwiseQuantization":
        return tensor
    details = details.replace(
        scales=number.get(details.scales, details.scales),
        zero_points=number.get(details.zero_points, details.zero_points),
    )
    return tensor.replace(quantization=quantization.replace(details=details))
