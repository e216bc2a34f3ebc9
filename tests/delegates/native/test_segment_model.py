"""Segments as models of their own: LiteRT runs what the writer makes of real models' segments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.support import require, shared_path

from delegraph.core.abi import host
from delegraph.core.abi.native.segment_model import INLINE_LIMIT_BYTES, segment_model
from delegraph.core.abi.values import GraphView, Segment
from delegraph.core.graph.build import build
from delegraph.core.graph.graph import Array
from delegraph.core.model.reader import read
from delegraph.core.model.writer import write
from delegraph.core.ops import registry
from delegraph.core.ops.nodes import infer_op, spec_of
from delegraph.core.ops.opdef import Node, TensorSpec
from delegraph.core.ops.prepare import prepare
from delegraph.core.runtime.plan import make_segment
from delegraph.delegates.reference.delegate import ReferenceProgram
from delegraph.testing import Oracle

MODELS = (
    "mlperf_resnet8_float",  # floats
    "mlperf_resnet8_int8",  # per channel
    "mobilenet_v1_0.25_128_quant",  # uint8
    "face_landmark",  # PRELU, per-channel slopes
    "face_detection_short_range",  # float16 constants, folded
)


def segments_of(path: Path, n_parts: int = 2) -> list[Segment]:
    """The ops of a model's main graph in consecutive segments."""
    graph = prepare(build(read(path))).main
    specs: dict[int, TensorSpec] = {i: spec_of(graph.tensors[i]) for i in graph.inputs}
    nodes: list[Node] = []
    for op in graph.ops:
        opdef = registry.find(op.name)
        assert opdef is not None
        node = infer_op(graph, op, opdef, specs)
        assert node is not None
        nodes.append(node)
    size = -(-len(nodes) // n_parts)
    parts = [nodes[i : i + size] for i in range(0, len(nodes), size)]
    found = []
    for k, part in enumerate(parts):
        after = {i for later in parts[k + 1 :] for node in later for i in node.op.inputs} | set(graph.outputs)
        found.append(make_segment(graph, part, specs, after))
    return found


def reference_results(segment: Segment, inputs: list[Array]) -> list[Array]:
    context = ReferenceProgram(segment).context(host.allocate(0))
    outputs = [np.empty(segment.specs[i].shape, segment.specs[i].dtype.numpy) for i in segment.outputs]
    context.bind([host.HostBuffer(a) for a in inputs], [host.HostBuffer(a) for a in outputs])
    context.run().wait()
    return outputs


def random_inputs(segment: Segment, seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    found: list[Array] = []
    for i in segment.inputs:
        spec = segment.specs[i]
        if spec.dtype.is_float:
            found.append(rng.uniform(-1, 1, spec.shape).astype(spec.dtype.numpy))
        else:
            info = np.iinfo(spec.dtype.numpy)
            found.append(rng.integers(info.min, info.max, spec.shape, spec.dtype.numpy, endpoint=True))
    return found


@pytest.mark.parametrize("name", MODELS)
def test_litert_runs_segments_with_the_reference_results(name: str, oracle: Oracle) -> None:
    require("shared")
    for segment in segments_of(shared_path() / "models" / "real" / f"{name}.tflite"):
        inputs = random_inputs(segment)
        found = oracle.run(write(segment_model(segment).model(inline_all=True)), inputs).outputs
        for ours, theirs in zip(reference_results(segment, inputs), found, strict=True):
            if ours.dtype.kind == "f":
                np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-4 * max(1.0, np.abs(theirs).max()))
            else:
                np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", MODELS)
def test_large_constants_stay_outside(name: str) -> None:
    require("shared")
    path = shared_path() / "models" / "real" / f"{name}.tflite"
    for segment in segments_of(path):
        found = segment_model(segment)
        data = found.to_bytes()
        back = read(data)
        tensors = back.subgraphs[0].tensors
        assert len(tensors) == len(found.tensors)
        assert sum(a.size for a in found.external.values()) > len(data) // 4
        for i, constant in found.constants.items():
            stored = back.buffer_data(tensors[i].buffer)
            assert tensors[i].buffer > 0
            if i in found.external:
                assert stored is None and constant.size > INLINE_LIMIT_BYTES
            else:
                assert stored is not None and np.array_equal(stored, constant)


def test_the_same_segment_gives_the_same_bytes() -> None:
    require("shared")
    path = shared_path() / "models" / "real" / "mlperf_resnet8_int8.tflite"
    one, other = (segment_model(segments_of(path)[1]) for _ in range(2))
    assert one.to_bytes() == other.to_bytes()
    assert one.number == other.number


def test_a_view_takes_what_it_reads_and_gives_what_it_makes() -> None:
    require("shared")
    segment = segments_of(shared_path() / "models" / "real" / "mlperf_resnet8_int8.tflite")[0]
    found = segment_model(GraphView(segment.graph, segment.nodes))
    assert [found.tensors[i].source for i in found.inputs] == list(segment.inputs)
    assert len(found.outputs) == sum(len(node.outputs) for node in segment.nodes)
