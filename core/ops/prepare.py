"""Preparation of graphs before placement; never changes numerics. Imports core.graph, core.ops.

Folds ops whose inputs are all constant (float16 weights behind DEQUANTIZE, DENSIFY of sparse weights, arithmetic on
constants) into the constant they make.
"""

from __future__ import annotations

import numpy as np

from delegraph.core.errors import DataError
from delegraph.core.graph.graph import Graph, GraphSet, Tensor
from delegraph.core.ops import registry
from delegraph.core.ops.nodes import node_of, output_shapes, with_shapes
from delegraph.core.ops.opdef import TensorSpec, blamed_on
from delegraph.core.ops.support import node_support

FOLD_LIMIT_BYTES = 1 << 28
"""An op that makes more than this is left to the run: folding must not blow up a small file."""


def prepare(graphs: GraphSet) -> GraphSet:
    """The graphs with constant ops folded; tensor and op numbers stay."""
    return graphs.replace_graphs(tuple(fold_constants(graph) for graph in graphs.graphs))


def fold_constants(graph: Graph) -> Graph:
    """The graph without the ops whose inputs are all constant: their outputs become constants."""
    folded: dict[int, Tensor] = {}
    drop: dict[int, str] = {}
    specs: dict[int, TensorSpec] = {}
    variable = set(graph.inputs)

    def is_constant(index: int) -> bool:
        return index in folded or (index not in variable and graph.tensors[index].is_constant)

    for op in graph.ops:
        opdef = registry.find(op.name)
        inputs = [i for i in op.inputs if i >= 0]
        if (
            opdef is None
            or opdef.host
            or opdef.variables
            or not opdef.is_pure
            or not inputs
            or not all(is_constant(i) for i in inputs)
        ):
            continue
        node = node_of(graph, op, opdef, specs)
        if node_support(op, node) is not None:
            continue
        shapes = output_shapes(node, opdef)
        if any(shape is None for shape in shapes):
            continue
        node = with_shapes(node, tuple(shape for shape in shapes if shape is not None))
        if sum(spec.size_bytes for spec in node.outputs) > FOLD_LIMIT_BYTES or any(
            not spec.dtype.is_plain or spec.dtype.bits < 8 for spec in node.outputs
        ):
            continue
        form = opdef.form(node)
        if form is None:
            continue
        try:
            with blamed_on(node), np.errstate(all="ignore"):
                results = form.prepare(node)(*(None if s is None else s.value for s in node.inputs))
        except DataError:  # for the run to find out, which may never come here
            continue
        for i, result in zip([o for o in op.outputs if o >= 0], results, strict=True):
            folded[i] = graph.tensors[i].with_constant(np.asarray(result))
            specs[i] = TensorSpec(folded[i].dtype, folded[i].shape, folded[i].quantization, folded[i].constant)
        drop[op.index] = f"computed ahead of the run: {op.name} of constants"
    return graph.with_changes(tensors=folded, drop=drop) if drop else graph
