"""Segments of several ops: results, fusion, and where tensors lie."""

from __future__ import annotations

import numpy as np
import pytest
from tests.delegates.opencl import models
from tests.delegates.opencl.harness import (
    TRAITS,
    Loaded,
    model_segment,
    run_opencl,
    run_reference,
    supports,
)
from tests.graphs import GraphBuilder, model

from delegraph.core.abi.values import DelegateError, ErrorCode
from delegraph.core.graph.graph import Array
from delegraph.core.model.model import Model
from delegraph.core.runtime.packs import PackStore
from delegraph.delegates.opencl.compiler import lower
from delegraph.delegates.opencl.device import OpenClDevice


def _inputs(the_model: Model, seed: int = 0) -> list[Array]:
    segment, rng = model_segment(the_model), np.random.default_rng(seed)
    return [rng.uniform(-2, 2, segment.specs[i].shape).astype(np.float32) for i in segment.inputs]


def test_float_network(device: OpenClDevice) -> None:
    segment, inputs = model_segment(models.float_network()), _inputs(models.float_network())
    assert all(answer.runs for answer in supports(device, segment))
    (found,), (expected,) = run_opencl(device, segment, inputs), run_reference(segment, inputs)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_quantized_network_is_exact(device: OpenClDevice) -> None:
    segment = model_segment(models.quantized_network())
    loaded = Loaded(device, segment, PackStore(None))
    for seed in range(4):
        inputs = _inputs(models.quantized_network(), seed)
        assert np.array_equal(loaded.run(inputs)[0], run_reference(segment, inputs)[0])


def test_elementwise_chain(device: OpenClDevice) -> None:
    segment, inputs = model_segment(models.elementwise_chain()), _inputs(models.elementwise_chain())
    (found,), (expected,) = run_opencl(device, segment, inputs), run_reference(segment, inputs)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6)


def test_every_tensor_can_be_delivered(device: OpenClDevice) -> None:
    """Also those that would be fused away, or be another one's memory."""
    for the_model in (models.float_network(), models.elementwise_chain()):
        made = [t for node in model_segment(the_model).nodes for t in node.op.outputs]
        segment, inputs = model_segment(the_model, made), _inputs(the_model)
        for found, expected in zip(run_opencl(device, segment, inputs), run_reference(segment, inputs), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


# --- lowering, which needs no device ------------------------------------------------------------------------------


def test_a_chain_is_one_kernel_per_tensor_that_is_used_twice() -> None:
    plan = lower(model_segment(models.elementwise_chain()), TRAITS, PackStore(None)).plan
    assert [len(launch[2]) for launch in plan.launches] == [5, 5]  # x, y, c → a; a, x, y → result; and sizes
    assert plan.scratch >= 2 * 3 * 4 * 5 * 4


def test_delivered_tensors_are_not_fused_away() -> None:
    segment = model_segment(models.elementwise_chain())
    made = [t for node in segment.nodes for t in node.op.outputs]
    plan = lower(model_segment(models.elementwise_chain(), made), TRAITS, PackStore(None)).plan
    assert len(plan.launches) == len(made) and plan.scratch == 0


def test_a_reshape_inside_costs_nothing() -> None:
    g = GraphBuilder()
    x = g.input((2, 6))
    a = g.op("RELU", [x], (2, 6))
    b = g.op("RESHAPE", [a, g.constant(np.array([3, 4], np.int32))], (3, 4))
    g.outputs = [g.op("SOFTMAX", [b], (3, 4), beta=1.0)]
    assert len(lower(model_segment(model(g)), TRAITS, PackStore(None)).plan.launches) == 2


def test_equal_kernels_and_constants_are_kept_once() -> None:
    g = GraphBuilder()
    x = g.input((1, 4, 4, 4))
    w, b = g.constant(np.ones((4, 1, 1, 4), np.float32)), g.constant(np.zeros(4, np.float32))
    for _ in range(5):
        x = g.op("CONV_2D", [x, w, b], (1, 4, 4, 4), stride_h=1, stride_w=1)
    g.outputs = [x]
    plan = lower(model_segment(model(g)), TRAITS, PackStore(None)).plan
    assert (len(plan.launches), len(plan.kernels), len(plan.packs), len(plan.blobs)) == (5, 1, 1, 1)
    assert plan.scratch == 2 * 256  # two tensors at a time
    assert all(offset % TRAITS.alignment == 0 for offset, _ in plan.blobs)


def test_lowering_is_deterministic() -> None:
    first, second = (lower(model_segment(models.float_network()), TRAITS, PackStore(None)) for _ in range(2))
    assert first == second


def test_compile_refuses_what_supports_refuses(device: OpenClDevice) -> None:
    g = GraphBuilder()
    x = g.input((3, 4))
    g.outputs = [g.op("CUMSUM", [x, g.constant(np.array(0, np.int32))], (3, 4))]
    with pytest.raises(DelegateError) as caught:
        device.compile(model_segment(model(g)), PackStore(None), {})
    assert caught.value.code is ErrorCode.UNSUPPORTED


def test_compile_gives_up_at_its_deadline(device: OpenClDevice) -> None:
    with pytest.raises(DelegateError) as caught:
        device.compile(model_segment(models.float_network()), PackStore(None), {}, deadline=0.0)
    assert caught.value.code is ErrorCode.TIMEOUT
