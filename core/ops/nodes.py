"""Graph + specs → Node, shapes and known values: what can be said of an op before it runs. Imports core.graph, ops."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import replace

import numpy as np

from delegraph.core.errors import DataError, InvalidModel
from delegraph.core.graph.graph import Array, Graph, Op, Shape, Tensor
from delegraph.core.model.table import Table
from delegraph.core.ops.opdef import Node, OpDef, TensorSpec, blamed_on

KNOWN_VALUE_LIMIT = 4096
"""Elements up to which a value is computed ahead of the run for the sake of the shapes that depend on it."""

_NO_OPTIONS = Table("AbsOptions")


def spec_of(tensor: Tensor, shape: Shape | None = None) -> TensorSpec:
    """What the file says of a tensor, with another shape if one is given."""
    return TensorSpec(
        tensor.dtype,
        tensor.shape if shape is None else shape,
        tensor.quantization,
        tensor.constant if shape is None else None,
        tensor.sparsity,
        tensor.is_variable,
    )


def node_of(graph: Graph, op: Op, opdef: OpDef, specs: Mapping[int, TensorSpec]) -> Node:
    """The node of ``op``: operands from ``specs``, else as the file has them.

    Raises:
        InvalidModel: the options are those of another op, or the number of operands is.
    """
    opdef.check_arity(op)
    options = op.options
    if opdef.options:
        if options is None:
            options = Table(opdef.options)
        elif options.type_name != opdef.options:
            raise InvalidModel(f"{op.place}.builtin_options", opdef.options, options.type_name)

    def spec(index: int) -> TensorSpec:
        return specs[index] if index in specs else spec_of(graph.tensors[index])

    return Node(
        op,
        tuple(None if i < 0 else spec(i) for i in op.inputs),
        tuple(spec(i) for i in op.outputs if i >= 0),
        options if options is not None else _NO_OPTIONS,
    )


def with_shapes(node: Node, shapes: tuple[Shape, ...]) -> Node:
    """The node with its outputs' shapes filled in."""
    return replace(
        node,
        outputs=tuple(replace(spec, shape=shape) for spec, shape in zip(node.outputs, shapes, strict=True)),
    )


def output_shapes(node: Node, opdef: OpDef) -> tuple[Shape | None, ...]:
    """The shapes of the op's outputs, one each; None where data decides.

    Raises:
        InvalidModel: the operands don't fit together, or the op has another number of outputs.
    """
    with blamed_on(node):
        shapes = tuple(opdef.shapes(node))
    if len(shapes) != len(node.outputs):
        raise InvalidModel(f"{node.place}.outputs", f"{len(shapes)} outputs", f"{len(node.outputs)}")
    return shapes


def infer_op(graph: Graph, op: Op, opdef: OpDef, specs: MutableMapping[int, TensorSpec]) -> Node | None:
    """Adds the specs of the op's outputs to ``specs`` and returns its node, or None when a shape depends on data.

    A small output whose inputs are all known is computed on the way, so that shapes which depend on it are known too.

    Raises:
        InvalidModel: the operands do not fit together.
    """
    node = node_of(graph, op, opdef, specs)
    shapes = output_shapes(node, opdef)
    known = [shape for shape in shapes if shape is not None]
    if len(known) != len(shapes):
        return None
    node = with_shapes(node, tuple(known))
    values = _known_values(node, opdef)
    for i, (index, spec) in enumerate(zip([o for o in op.outputs if o >= 0], node.outputs, strict=True)):
        specs[index] = spec if values is None else replace(spec, value=values[i])
    return node


def _known_values(node: Node, opdef: OpDef) -> list[Array] | None:
    if not opdef.is_pure or opdef.host or opdef.variables:
        return None
    if opdef.name not in ("SHAPE", "RANK") and not all(
        spec is None or (spec.value is not None and spec.n_elements <= KNOWN_VALUE_LIMIT) for spec in node.inputs
    ):
        return None
    if any(spec.n_elements > KNOWN_VALUE_LIMIT for spec in node.outputs):
        return None
    form = opdef.form(node)
    if form is None:
        return None
    try:
        with blamed_on(node), np.errstate(all="ignore"):
            return [np.asarray(a) for a in form.prepare(node)(*(spec and _value(spec) for spec in node.inputs))]
    except DataError:  # for the run to find out
        return None


def _value(spec: TensorSpec) -> Array:
    """The value, or for an op that only asks for the shape (SHAPE, RANK) an array without memory of that shape."""
    if spec.value is not None:
        return spec.value
    return np.broadcast_to(np.zeros((), spec.dtype.numpy), spec.shape)
