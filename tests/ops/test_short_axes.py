"""Windows over axes that are too short for them: an empty result, or a refusal, just where LiteRT gives one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.graphs import GraphBuilder, model
from tests.support import require

import delegraph as dg
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Quantization
from delegraph.core.model.model import Model
from delegraph.core.model.writer import write
from delegraph.testing import Oracle
from delegraph.testing.oracle import OracleRefused

SAME, VALID = 0, 1
WINDOW, STRIDE = 6, 2
OPS = ("CONV_2D", "CONV_2D int8", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D", "MAX_POOL_2D")


def windowed(name: str, padding: int) -> Model:
    """One op with a window of 1 x 6 over an axis of unknown size."""
    kind, _, is_quantized = name.partition(" ")
    g = GraphBuilder()
    dtype = DType.INT8 if is_quantized else DType.FLOAT32
    q = Quantization.per_tensor(0.5, 3) if is_quantized else None
    x = g.input([1, 2, 9, 4], dtype, quantization=q, signature=[1, 2, -1, 4])
    options: dict[str, Any] = {"padding": padding, "stride_h": 1, "stride_w": STRIDE}
    operands = [x]
    if kind.endswith("POOL_2D"):
        options |= {"filter_height": 1, "filter_width": WINDOW}
    else:
        shape = (4, 1, WINDOW, 4) if kind == "CONV_2D" else (1, 1, WINDOW, 4)
        weights = Quantization.per_tensor(0.25) if is_quantized else None
        operands.append(g.constant(np.ones(shape, dtype.numpy), weights))
        bias = Quantization.per_tensor(0.125) if is_quantized else None
        operands.append(g.constant(np.ones(4, np.int32 if is_quantized else np.float32), bias))
        options |= {"dilation_h_factor": 1, "dilation_w_factor": 1}
        if kind != "CONV_2D":
            options |= {"depth_multiplier": 1}
    width = -(-9 // STRIDE) if padding == SAME else (9 + STRIDE - WINDOW) // STRIDE
    made = g.tensor([1, 2, width, 4], dtype, q)
    g.op(kind, operands, outputs=[made], **options)
    g.outputs = [made]
    return model(g)


@pytest.mark.parametrize("padding", [SAME, VALID])
@pytest.mark.parametrize("name", OPS)
def test_it_is_as_in_litert(name: str, padding: int) -> None:
    require("litert")
    found, refused = windowed(name, padding), 0
    compiled = {device: dg.compile(found, devices=device) for device in ("reference", "cpu")}
    dtype = compiled["cpu"].inputs[0].dtype.numpy
    with Oracle() as oracle:
        for width in range(3 if name.endswith("POOL_2D") else 1, 10):  # below, pooling makes an empty height of it, too
            x = np.full((1, 2, width, 4), 2, dtype)
            try:
                (expected,) = oracle.run(write(found), [x]).outputs
            except OracleRefused:
                refused += 1
                for device in compiled:
                    with pytest.raises(
                        dg.InvalidModel, match=rf"operators\[0\] {name.split()[0]}\.inputs\[0\]: expected"
                    ):
                        compiled[device](x)
                continue
            for device in compiled:
                np.testing.assert_array_equal(compiled[device](x), expected, err_msg=f"{device}, {width} wide")
    assert refused == (2 if padding == VALID and not name.endswith("POOL_2D") else 0)


def test_a_size_in_the_file_that_does_not_fit_waits_for_a_call_that_does() -> None:
    """Where a size is unknown the file says any, often 1."""
    g = GraphBuilder()
    x = g.input([1, 1, 1, 1], signature=[1, 1, -1, 1])
    weights = g.constant(np.ones((1, 1, WINDOW, 1), np.float32))
    made = g.tensor([1, 1, 1, 1])
    g.op("CONV_2D", [x, weights], outputs=[made], padding=VALID, stride_h=1, stride_w=1,
         dilation_h_factor=1, dilation_w_factor=1)  # fmt: skip
    g.outputs = [made]
    compiled = dg.compile(model(g))
    assert compiled(np.ones((1, 1, WINDOW, 1), np.float32)).item() == WINDOW
    with pytest.raises(dg.InvalidModel, match="expected at least 5 elements along an axis with a window of 6, found 1"):
        compiled(np.ones((1, 1, 1, 1), np.float32))
