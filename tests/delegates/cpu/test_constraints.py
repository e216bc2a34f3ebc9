"""Each rule: an op at its limit that passes, one past it that is refused with that rule's id and sentence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.graphs import GraphBuilder, model

from delegraph.core.abi.values import Support, Verdict
from delegraph.core.graph.build import build
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Quantization
from delegraph.core.ops import registry as core_registry
from delegraph.core.ops.nodes import infer_op, node_of
from delegraph.core.ops.opdef import Node, TensorSpec
from delegraph.delegates.cpu.delegate import support
from delegraph.delegates.cpu.ops import registry
from delegraph.delegates.cpu.ops.pooling import MAX_WINDOW

Q = Quantization.per_tensor(0.5, 3)


def _answer(g: GraphBuilder) -> Support:
    graph = build(model(g)).main
    (op,) = graph.ops
    opdef = core_registry.find(op.name)
    assert opdef is not None
    specs: dict[int, TensorSpec] = {}
    node: Node = infer_op(graph, op, opdef, specs) or node_of(graph, op, opdef, specs)
    return support(node)


def _conv(weights: str = "constant", bias: str = "constant", scale: bool = True) -> Support:
    g = GraphBuilder()
    x = g.input([1, 4, 4, 2], DType.INT8, quantization=Q)
    data = np.ones((3, 1, 1, 2), np.int8)
    w_q = Quantization.per_tensor(0.1, 0)
    w = g.constant(data, w_q) if weights == "constant" else g.input([3, 1, 1, 2], DType.INT8, quantization=w_q)
    b = g.constant(np.zeros(3, np.int32)) if bias == "constant" else g.input([3], DType.INT32)
    out = g.tensor([1, 4, 4, 3], DType.INT8, quantization=Q if scale else None)
    g.op("CONV_2D", [x, w, b], outputs=[out], stride_h=1, stride_w=1)
    g.outputs = [out]
    return _answer(g)


def _pool(window: int) -> Support:
    g = GraphBuilder()
    x = g.input([1, 256, 300, 1], DType.INT8, quantization=Q)
    out = g.tensor([1, 1, 1, 1], DType.INT8, quantization=Q)
    options: dict[str, Any] = {
        "filter_height": 256,
        "filter_width": window // 256,
        "stride_h": 1,
        "stride_w": 1,
        "padding": 1,
    }
    g.op("AVERAGE_POOL_2D", [x], outputs=[out], **options)
    g.outputs = [out]
    return _answer(g)


def _relu(shape: list[int]) -> Support:
    g = GraphBuilder()
    g.outputs = [g.op("RELU", [g.input(shape)], shape)]
    return _answer(g)


@pytest.mark.parametrize(
    ("fits", "breaks", "constraint"),
    [
        (_conv(), _conv(weights="input"), "cpu.constant_weights"),
        (_conv(), _conv(bias="input"), "cpu.constant_bias"),
        (_conv(), _conv(scale=False), "cpu.quantization"),
        (_pool(MAX_WINDOW), _pool(MAX_WINDOW + 256), "cpu.pool_window"),
        (_relu([1]), _relu([0]), "cpu.not_empty"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_at_the_limit_and_past_it(fits: Support, breaks: Support, constraint: str) -> None:
    assert fits.verdict is Verdict.YES
    assert (breaks.verdict, breaks.constraint) == (Verdict.NO, constraint)
    assert ", found " in breaks.reason


def test_reasons_name_what_there_is() -> None:
    g = GraphBuilder()
    g.outputs = [g.op("RELU", [g.input([2], DType.INT16, quantization=Quantization.per_tensor(1.0))], [2], DType.INT16)]
    table: Any = g.tensors[g.outputs[0]]
    q = g.tensors[0].quantization
    g.tensors[g.outputs[0]] = table.replace(quantization=q)
    assert _answer(g).reason.startswith("no native code for int16 -> int16; there is for float32 -> float32")


def test_every_rule_is_a_sentence() -> None:
    for entry in registry.all_lowerings():
        for rule in entry.constraints:
            assert rule.id.islower() and " must " in rule.sentence and not rule.sentence.endswith(".")
