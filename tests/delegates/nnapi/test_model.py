"""The modelled time against published latencies: a model that is off by more than its tolerance is no model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.support import require, shared_path

import delegraph as dg
from delegraph.core.abi.values import Link, Segment
from delegraph.core.devices import load
from delegraph.core.devices.values import Profile
from delegraph.core.graph.build import build
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Graph, Op, Quantization
from delegraph.core.model.table import Table
from delegraph.core.ops import registry
from delegraph.core.ops.nodes import infer_op
from delegraph.core.ops.opdef import Node, TensorSpec
from delegraph.delegates.nnapi.model import constant_bytes, node_estimate, segment_estimate, transfer_ns

Q = Quantization.per_tensor(0.5)
IMAGE = 224 * 224 * 3


def _dense(macs: int, parameters: int, dtype: DType = DType.INT8) -> Node:
    """A CONV_2D op of so many multiply-accumulates and parameters, with small feature maps."""
    depth = 1000
    out = max(1, parameters // depth)
    pixels = max(1, round(macs / (depth * out)))
    weights = TensorSpec(dtype, (out, 1, 1, depth), Q, np.broadcast_to(np.zeros((), dtype.numpy), (out, 1, 1, depth)))
    options = Table("Conv2DOptions", stride_h=1, stride_w=1)
    data = TensorSpec(dtype, (1, 1, pixels, depth), Q)
    result = TensorSpec(dtype, (1, 1, pixels, out), Q)
    return Node(Op(0, "CONV_2D", 1, (0, 1), (2,)), (data, weights), (result,), options)


def _latency_ms(profile: Profile, node: Node, input_bytes: int) -> float:
    """Launch, input and computation of one run."""
    graph = Graph(0, "", (), (node.op,), (0,), (2,))
    cost = segment_estimate(profile, Segment(graph, (node,), (0,), (2,), (), {}))
    assert cost is not None
    return (profile.launch_ns + transfer_ns(profile.to_device, input_bytes) + cost.time_ns) / 1e6


@pytest.mark.parametrize(
    ("profile", "model", "macs", "parameters", "input_bytes", "published_ms", "tolerance"),
    [
        # Coral, "Edge TPU performance benchmarks"; MACs and parameters from the models' papers
        ("coral-usb", "MobileNet v1", 0.57e9, 4.2e6, IMAGE, 2.4, 0.15),
        ("coral-usb", "Inception v4", 12.3e9, 42.7e6, 299 * 299 * 3, 85, 0.10),
        ("coral-usb", "VGG16", 15.5e9, 138e6, IMAGE, 296, 0.10),
        ("coral-usb", "ResNet-152", 11.3e9, 60.4e6, 299 * 299 * 3, 128, 0.10),
        ("coral-dev-board", "MobileNet v1", 0.57e9, 4.2e6, IMAGE, 2.4, 0.15),
        ("coral-dev-board", "Inception v4", 12.3e9, 42.7e6, 299 * 299 * 3, 102, 0.10),
        ("coral-dev-board", "VGG16", 15.5e9, 138e6, IMAGE, 343, 0.10),
        # TensorFlow hosted_models.md, Pixel 3, NNAPI
        ("phone-dsp", "Inception v3", 5.7e9, 23.8e6, 299 * 299 * 3, 74, 0.15),
        ("phone-dsp", "MobileNet v1", 0.57e9, 4.2e6, IMAGE, 6.0, 0.45),
        # ethos-u-vela 5.2.0, ad01 of MLPerf Tiny, u55-128
        ("ethos-u55-128", "anomaly detection", 264192, 200e3, 640, 0.402, 0.05),
    ],
)
def test_published_latencies(
    profile: str, model: str, macs: float, parameters: float, input_bytes: int, published_ms: float, tolerance: float
) -> None:
    found = _latency_ms(load().profiles[profile], _dense(int(macs), int(parameters)), input_bytes)
    assert found == pytest.approx(published_ms, rel=tolerance), model


@pytest.mark.parametrize(
    ("profile", "name", "published_ms", "tolerance"),
    [
        # ethos-u-vela 5.2.0, total cycles of the MLPerf Tiny models; it compresses weights, which U55 is bound by
        ("ethos-u55-128", "mlperf_ad01_int8", 0.402, 0.50),
        ("ethos-u55-128", "mlperf_kws_int8", 0.180, 0.50),
        ("ethos-u55-128", "mlperf_resnet8_int8", 0.403, 0.50),
        ("ethos-u55-128", "mlperf_vww_96_int8", 0.442, 0.50),
        ("ethos-u65-256", "mlperf_ad01_int8", 0.043, 0.30),
        ("ethos-u65-256", "mlperf_kws_int8", 0.055, 0.30),
        ("ethos-u65-256", "mlperf_resnet8_int8", 0.104, 0.30),
        ("ethos-u65-256", "mlperf_vww_96_int8", 0.153, 0.30),
    ],
)
def test_velas_estimates(profile: str, name: str, published_ms: float, tolerance: float) -> None:
    require("shared")
    graph = build(dg.load(shared_path() / "models" / "real" / f"{name}.tflite")).main
    specs: dict[int, TensorSpec] = {}
    total_ns = 0
    for op in graph.ops:
        opdef = registry.find(op.name)
        assert opdef is not None
        node = infer_op(graph, op, opdef, specs)
        assert node is not None
        cost = node_estimate(load().profiles[profile], node)
        assert cost is not None
        total_ns += cost.time_ns
    assert total_ns / 1e6 == pytest.approx(published_ms, rel=tolerance)


def test_phone_gpu_against_benchmarks() -> None:
    """TensorFlow benchmarks.md, Pixel 4, GPU: Inception v4 97.6 ms."""
    node = _dense(int(12.3e9), int(42.7e6), DType.FLOAT32)
    assert _latency_ms(load().profiles["phone-gpu"], node, 4 * 299 * 299 * 3) == pytest.approx(97.6, rel=0.40)


def test_more_of_anything_never_costs_less() -> None:
    profile = load().profiles["ethos-u55-128"]

    def time_ns(profile: Profile, macs: int, parameters: int) -> int:
        cost = node_estimate(profile, _dense(macs, parameters))
        assert cost is not None
        return cost.time_ns

    for change in ({"memory_bytes_per_s": 2e9}, {"weights_bytes_per_s": 1e8}, {"utilization": {"default": 0.1}}):
        slower: Any = replace(profile, **change)
        assert time_ns(slower, 10**7, 10**5) >= time_ns(profile, 10**7, 10**5)
    assert time_ns(profile, 10**8, 10**5) > time_ns(profile, 10**7, 10**5)


def test_constants_are_counted_once() -> None:
    node = _dense(10**6, 10**4)
    assert constant_bytes([node, node]) == constant_bytes([node]) == 10**4


def test_transfers() -> None:
    assert transfer_ns(Link(), 1000) == 0
    assert transfer_ns(Link(latency_ns=5, bytes_per_s=10**9), 1000) == 1005
    assert transfer_ns(Link(bytes_per_s=3 * 10**9), 1) == 1


def test_energy_where_it_is_published() -> None:
    cost = node_estimate(load().profiles["coral-usb"], _dense(10**9, 10**6))
    assert cost is not None and cost.energy_nj == 10**6  # 1 pJ a multiply-accumulate
    cost = node_estimate(load().profiles["phone-dsp"], _dense(10**9, 10**6))
    assert cost is not None and cost.energy_nj == 0
