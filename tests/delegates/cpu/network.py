"""A small network for tests of artifacts; imported by child processes as well."""

from __future__ import annotations

import numpy as np
from tests.graphs import GraphBuilder, model

from delegraph.core.abi.values import Segment
from delegraph.core.graph.build import build
from delegraph.core.graph.graph import Array
from delegraph.core.ops import registry
from delegraph.core.ops.nodes import infer_op
from delegraph.core.ops.opdef import TensorSpec
from delegraph.core.runtime.plan import make_segment

DATA: Array = np.random.default_rng(1).uniform(-1, 1, (1, 6, 5, 3)).astype(np.float32)


def network_segment() -> Segment:
    """A convolution, an addition and an activation."""
    rng = np.random.default_rng(0)
    g = GraphBuilder()
    x = g.input([1, 6, 5, 3])
    w = g.constant(rng.uniform(-1, 1, (20, 3, 3, 3)).astype(np.float32))
    b = g.constant(rng.uniform(-1, 1, 20).astype(np.float32))
    y = g.op("CONV_2D", [x, w, b], [1, 6, 5, 20], stride_h=1, stride_w=1)
    z = g.op("ADD", [y, g.constant(np.ones(20, np.float32))], [1, 6, 5, 20])
    g.outputs = [g.op("RELU6", [z], [1, 6, 5, 20])]
    graph = build(model(g)).main
    specs: dict[int, TensorSpec] = {}
    nodes = []
    for op in graph.ops:
        opdef = registry.find(op.name)
        assert opdef is not None
        node = infer_op(graph, op, opdef, specs)
        assert node is not None
        nodes.append(node)
    return make_segment(graph, nodes, specs, frozenset(graph.outputs))
