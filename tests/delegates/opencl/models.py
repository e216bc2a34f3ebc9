"""Models of several ops for these tests."""

from __future__ import annotations

import numpy as np
from tests.graphs import GraphBuilder, model

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Quantization
from delegraph.core.model.model import Model

RNG_SEED = 7


def _weights(rng: np.random.Generator, *shape: int) -> Array:
    return rng.uniform(-0.5, 0.5, shape).astype(np.float32)


def float_network() -> Model:
    """conv → depthwise → relu6 → residual add → pool → reshape → dense → softmax, float32."""
    rng, g = np.random.default_rng(RNG_SEED), GraphBuilder()
    x = g.input((1, 9, 9, 3))
    w, b = g.constant(_weights(rng, 8, 3, 3, 3)), g.constant(_weights(rng, 8))
    a = g.op("CONV_2D", [x, w, b], (1, 9, 9, 8), stride_h=1, stride_w=1, fused_activation_function=1)
    w, b = g.constant(_weights(rng, 1, 3, 3, 8)), g.constant(_weights(rng, 8))
    d = g.op("DEPTHWISE_CONV_2D", [a, w, b], (1, 9, 9, 8), stride_h=1, stride_w=1, depth_multiplier=1)
    r = g.op("RELU6", [d], (1, 9, 9, 8))
    s = g.op("ADD", [r, a], (1, 9, 9, 8))
    p = g.op("AVERAGE_POOL_2D", [s], (1, 3, 3, 8), filter_height=3, filter_width=3, stride_h=3, stride_w=3, padding=1)
    flat = g.op("RESHAPE", [p, g.constant(np.array([1, 72], np.int32))], (1, 72))
    w, b = g.constant(_weights(rng, 10, 72)), g.constant(_weights(rng, 10))
    f = g.op("FULLY_CONNECTED", [flat, w, b], (1, 10))
    g.outputs = [g.op("SOFTMAX", [f], (1, 10), beta=1.0)]
    return model(g)


def quantized_network() -> Model:
    """conv → max pool → add → mean → dense → softmax, int8, from a float input that it quantizes itself."""
    rng, g = np.random.default_rng(RNG_SEED), GraphBuilder()

    def tensor(shape: tuple[int, ...], scale: float, zero: int) -> int:
        return g.tensor(shape, DType.INT8, Quantization.per_tensor(scale, zero))

    def integers(*shape: int) -> Array:
        return rng.integers(-127, 128, shape).astype(np.int8)

    x = g.input((2, 8, 8, 3))
    q = tensor((2, 8, 8, 3), 0.02, -3)
    g.op("QUANTIZE", [x], outputs=[q])
    scales = rng.uniform(0.002, 0.01, 6)
    w = g.constant(integers(6, 3, 3, 3), Quantization.per_channel(scales, 0))
    b = g.constant(rng.integers(-900, 900, 6).astype(np.int32), Quantization.per_channel(scales * 0.02, 0))
    a = tensor((2, 8, 8, 6), 0.05, 5)
    g.op("CONV_2D", [q, w, b], outputs=[a], stride_h=1, stride_w=1, fused_activation_function=1)
    p = tensor((2, 8, 8, 6), 0.05, 5)
    g.op("MAX_POOL_2D", [a], outputs=[p], filter_height=3, filter_width=3, stride_h=1, stride_w=1)
    s = tensor((2, 8, 8, 6), 0.09, -1)
    g.op("ADD", [a, p], outputs=[s])
    m = tensor((2, 6), 0.07, 2)
    g.op("MEAN", [s, g.constant(np.array([1, 2], np.int32))], outputs=[m])
    w = g.constant(integers(5, 6), Quantization.per_tensor(0.01))
    f = tensor((2, 5), 0.02, 0)
    g.op("FULLY_CONNECTED", [m, w], outputs=[f])
    y = tensor((2, 5), 1 / 256, -128)
    g.op("SOFTMAX", [f], outputs=[y], beta=1.0)
    g.outputs = [y]
    return model(g)


def elementwise_chain() -> Model:
    """Ten elementwise ops that make one tensor from two, with a constant and operands that broadcast."""
    g = GraphBuilder()
    shape = (2, 3, 4, 5)
    x, y = g.input(shape), g.input((4, 1))
    c = g.constant(np.linspace(-2, 2, 5, dtype=np.float32))
    a = g.op("MUL", [x, y], shape)
    a = g.op("ADD", [a, c], shape, fused_activation_function=1)
    b = g.op("LOGISTIC", [a], shape)
    a = g.op("MUL", [a, b], shape)  # a swish: its operand is used twice, so it is stored
    a = g.op("HARD_SWISH", [a], shape)
    a = g.op("SUB", [a, x], shape)
    a = g.op("MUL", [a, a], shape)
    a = g.op("MAXIMUM", [a, y], shape)
    a = g.op("LEAKY_RELU", [a], shape, alpha=0.3)
    g.outputs = [g.op("TANH", [a], shape)]
    return model(g)
