"""The emulated devices: what they take and why not, that they give the host's answers, what an artifact is for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.delegates.agreement import SKIPPED, all_cases, case_segment, check, load
from tests.graphs import GraphBuilder, model

import delegraph as dg
from delegraph.core.abi import host as host_memory
from delegraph.core.abi.protocols import Device
from delegraph.core.abi.values import (
    Artifact,
    DelegateError,
    ErrorCode,
    GraphView,
    Options,
    Segment,
    Support,
    Verdict,
)
from delegraph.core.devices import load as load_profiles
from delegraph.core.devices.values import Devices
from delegraph.core.errors import DelegraphError, InvalidArgument, InvalidDevices
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Quantization
from delegraph.core.model.model import Model
from delegraph.core.runtime.packs import PackStore
from delegraph.delegates.nnapi import NnapiDelegate
from delegraph.delegates.nnapi.device import NnapiDevice
from delegraph.delegates.reference import ReferenceDelegate

PROFILES = tuple(load_profiles().profiles)
Q = Quantization.per_tensor(0.5, 3)


class Hosted(NnapiDelegate):
    """With the reference device to compute with, as the composition hands it over."""

    def open(self, device_id: str, options: Options, host: Device | None = None) -> NnapiDevice:
        return super().open(device_id, options, host or reference())


def reference() -> Device:
    return ReferenceDelegate().open("reference", {})


def device(profile: str, **changes: Any) -> NnapiDevice:
    """The device of a profile, with some of its fields changed."""

    def profiles() -> Devices:
        devices = load_profiles()
        return replace(devices, profiles={profile: replace(devices.profiles[profile], **changes)})

    return Hosted(profiles).open(f"nnapi:{profile}", {})


@pytest.fixture(scope="module")
def segments() -> list[Segment]:
    """Every case of the OpDefs that is a valid op, as a segment."""

    def found() -> Iterator[Segment]:
        for op, case in all_cases():
            try:
                segment = case_segment(op, case)
            except DelegraphError:
                continue
            if segment is not None:
                yield segment[0]

    return list(found())


def test_devices_are_listed() -> None:
    infos = {info.id: info for info in NnapiDelegate().devices()}
    assert set(infos) == {f"nnapi:{name}" for name in PROFILES}
    coral = infos["nnapi:coral-usb"]
    assert coral.is_virtual and coral.may_hang and coral.available
    assert (coral.machine, coral.memory_domain, coral.launch_ns) == ("coral-usb", "nnapi:coral-usb", 270000)
    assert coral.to_device.bytes_per_s == 430_000_000 and isinstance(coral.to_device.bytes_per_s, int)
    assert coral.limits.prefix_only and coral.limits.max_segments == 1
    assert "differ by 1" in coral.numerics and "host's exact ones" in coral.numerics
    assert infos["nnapi:ethos-u55-128"].numerics == "exact"
    assert infos["nnapi:phone-gpu"].kind == "gpu"


def test_a_broken_file_is_listed_with_the_reason() -> None:
    def broken() -> Devices:
        raise InvalidDevices("mine.yaml", 3, "profiles.x", "a mapping", "'y'")

    (info,) = NnapiDelegate(broken).devices()
    assert not info.available
    assert info.reason == "mine.yaml:3: profiles.x: expected a mapping, found 'y'"
    assert info.remedy == "correct mine.yaml, line 3"


def test_opening_needs_a_known_name_and_a_host() -> None:
    with pytest.raises(InvalidArgument, match="nnapi: device: expected one of nnapi:sample-all"):
        NnapiDelegate().open("nnapi:none", {}, reference())
    with pytest.raises(DelegateError, match="nnapi:sample-all: invalid: expected an exact host device"):
        NnapiDelegate().open("nnapi:sample-all", {})


@pytest.mark.parametrize("profile", PROFILES)
def test_every_op_has_an_answer_with_its_reason(profile: str, segments: list[Segment]) -> None:
    opened = device(profile)
    verdicts = set()
    for segment in segments:
        view = GraphView(segment.graph, segment.nodes)
        (answer,) = opened.supports(view)
        verdicts.add(answer.verdict)
        if answer.verdict is not Verdict.YES:
            assert answer.constraint and answer.reason and "{" not in answer.reason
        (estimate,) = opened.estimate(view)
        assert estimate is not None and estimate.time_ns >= 0 and isinstance(estimate.time_ns, int)
    exact = not load_profiles().profiles[profile].numerics
    assert verdicts == {Verdict.NO, Verdict.YES} | (set() if exact else {Verdict.DEVIATES}) or profile == "phone-gpu"


@pytest.mark.parametrize("profile", ["ethos-u55-128", "sample-float-fast"])
def test_results_are_the_references(profile: str) -> None:
    opened, passed = device(profile), 0
    for op, case in all_cases():
        if op.name in ("CONV_2D", "ADD", "SOFTMAX", "RESHAPE", "MEAN", "CONCATENATION", "PRELU"):
            found = check(opened, op, case)
            if not isinstance(found, Support):
                assert found.outcome in ("same", SKIPPED), found
                passed += found.outcome != SKIPPED
    assert passed > 20


def test_an_op_set_ends_where_its_level_does() -> None:
    segment = _relu()
    for op, level, wanted in (("GELU", 8, "NNAPI has nothing"), ("REVERSE_V2", 4, "feature level 7")):
        profile = load_profiles().profiles["sample-all"]
        opened = device("sample-all", op_set=replace(profile.op_set, nnapi_level=level))
        node = replace(segment.nodes[0], op=replace(segment.nodes[0].op, name=op))
        (answer,) = opened.supports(GraphView(segment.graph, (node,)))
        assert answer.verdict is Verdict.NO and answer.constraint == "op_set" and wanted in answer.reason
    (answer,) = device("sample-minimal").supports(GraphView(segment.graph, segment.nodes))
    assert answer.reason == "sample-minimal takes ADD, CONCATENATION, CONV_2D alone"


def test_a_refusal_has_value_limit_and_advice() -> None:
    graph = GraphBuilder()
    x = graph.input([1, 8, 8, 2], DType.INT8, quantization=Q)
    w = graph.constant(np.ones((2, 1, 1, 2), np.int8), Q)
    b = graph.constant(np.zeros(2, np.int32))
    y = graph.tensor([1, 2, 2, 2], DType.INT8, Q)
    graph.op("CONV_2D", [x, w, b], outputs=[y], stride_h=4, stride_w=4)
    graph.outputs = [y]
    compiled = dg.compile(model(graph), devices=["nnapi:ethos-u55-128"])
    (row,) = compiled.placement.rows
    assert row.device != "nnapi:ethos-u55-128"
    reason = "strides over 3 need padding VALID and no dilation, found 4x4 with padding SAME and dilation 1x1"
    assert row.refusals["nnapi:ethos-u55-128"] == reason
    (answer,) = device("phone-dsp").supports(_view(model(graph)))
    assert (answer.constraint, answer.value, answer.limit) == ("CONV_2D.stride", "4x4", "3")
    assert answer.advice.startswith("use smaller strides")


def test_moving_integers_never_deviates() -> None:
    graph = GraphBuilder()
    x = graph.input([1, 4], DType.INT8, quantization=Q)
    shape = graph.constant(np.array([2, 2], np.int32))
    y = graph.tensor([2, 2], DType.INT8, Q)
    graph.op("RESHAPE", [x, shape], outputs=[y])
    z = graph.tensor([2, 2], DType.INT8, Quantization.per_tensor(1 / 256, -128))
    graph.op("LOGISTIC", [y], outputs=[z])
    graph.outputs = [z]
    answers = device("coral-usb").supports(_view(model(graph)))
    assert [answer.verdict for answer in answers] == [Verdict.YES, Verdict.DEVIATES]
    assert answers[1].constraint == "numerics" and "differ by 1" in answers[1].reason


def test_deviating_devices_need_fast_numerics() -> None:
    graph = _relu_model()
    exact = dg.compile(graph, devices=["nnapi:phone-gpu"])
    fast = dg.compile(graph, devices=["nnapi:phone-gpu"], numerics="fast")
    assert "nnapi:phone-gpu" not in {row.device for row in exact.placement.rows}
    assert {row.device for row in fast.placement.rows} == {"nnapi:phone-gpu"}
    assert "float16" in fast.placement.rows[0].reason
    x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(1, 8)
    np.testing.assert_array_equal(fast(x), np.maximum(x, 0))
    assert fast.receipt().events == ()


def test_a_whole_model_computes_the_references_answer() -> None:
    path = _digits()
    x = np.random.default_rng(0).integers(-128, 127, _input_shape(path)).astype(np.int8)
    wanted = dg.compile(path, devices="reference")(x)
    compiled = dg.compile(path, devices=["nnapi:ethos-u55-128"])
    assert "nnapi:ethos-u55-128" in {row.device for row in compiled.placement.rows}
    np.testing.assert_array_equal(compiled(x), wanted)
    assert compiled.receipt().events == ()


def test_only_a_prefix_where_the_compiler_takes_only_one() -> None:
    graph = GraphBuilder()
    x = graph.input([1, 4])
    q = graph.tensor([1, 4], DType.INT8, Q)
    graph.op("QUANTIZE", [x], outputs=[q])
    a = graph.tensor([1, 4], DType.INT8, Q)
    graph.op("RELU", [q], outputs=[a])
    b = graph.tensor([1, 4], DType.INT8, Q)
    graph.op("RELU6", [a], outputs=[b])
    graph.outputs = [b]
    view = _view(model(graph))
    opened = device("coral-usb")

    def answer(first: int) -> Support:
        inputs = view.nodes[first].op.inputs
        return opened.check(Segment(view.graph, view.nodes[first:], inputs, (b,), (), {}))

    assert answer(1).runs  # behind a QUANTIZE that the CPU runs
    refused = answer(2)
    assert refused.constraint == "segment.prefix_only" and "found one that starts at tensor" in refused.reason
    assert device("ethos-u55-128").check(Segment(view.graph, view.nodes[2:], (a,), (b,), (), {})).runs


def test_limits_of_a_segment() -> None:
    segment = _relu()
    limits = load_profiles().profiles["sample-all"].limits
    few = device("sample-all", limits=replace(limits, min_ops=2)).check(segment)
    assert (few.constraint, few.value, few.limit) == ("segment.min_ops", "1 ops", "2")
    heavy = _segment(_weighted())
    beyond = device("sample-all", limits=replace(limits, weight_budget_bytes=15))  # 16 bytes: the rest is streamed
    assert beyond.check(heavy).runs


def test_artifacts_are_for_one_profile_and_one_host() -> None:
    segment = _relu()
    opened, packs = device("sample-all"), PackStore(None)
    artifact = opened.compile(segment, packs, {})
    opened.load(artifact, segment, packs)
    assert load(opened, segment, artifact).run_fresh([np.ones((1, 8), np.float32)])[0].shape == (1, 8)
    with pytest.raises(DelegateError, match="made for another profile") as caught:
        device("sample-all", digest="0" * 64).load(artifact, segment, packs)
    assert caught.value.code is ErrorCode.ARTIFACT_REFUSED

    class Other(ReferenceDelegate):
        pass

    other = Other().open("reference", {})
    other.info = replace(other.info, fingerprint={"numpy": "0"})
    moved = Hosted().open("nnapi:sample-all", {}, other)
    with pytest.raises(DelegateError, match="made for another fingerprint"):
        moved.load(artifact, segment, packs)


def test_damaged_artifacts_are_refused() -> None:
    segment = _relu()
    opened, packs = device("sample-all"), PackStore(None)
    artifact = opened.compile(segment, packs, {})
    payload = bytes(artifact.payload)
    bad = [Artifact("other", payload), Artifact(artifact.format, b"")]
    bad += [Artifact(artifact.format, payload[:n]) for n in range(len(payload))]
    bad += [Artifact(artifact.format, payload[:n] + b"\xff" + payload[n + 1 :]) for n in range(len(payload))]
    for each in bad:
        with pytest.raises(DelegateError) as caught:
            opened.load(each, segment, packs)
        assert caught.value.code is ErrorCode.ARTIFACT_REFUSED


def test_a_run_says_what_it_would_have_taken() -> None:
    segment = _segment(_weighted())
    opened, packs = device("coral-usb"), PackStore(None)
    program = opened.load(opened.compile(segment, packs, {}), segment, packs)
    context = program.context(host_memory.allocate(0))
    context.bind([opened.allocate(64) for _ in segment.inputs], [opened.allocate(64)])
    event = context.run()
    event.wait()
    estimate = opened.estimate_segment(segment)
    assert estimate is not None
    assert event.timings["launch"] == 270000
    assert event.timings["compute"] == estimate.time_ns
    assert event.timings["energy"] == estimate.energy_nj > 0
    assert event.timings["to_device"] == -(-4 * 10**9 // 430_000_000)


def _relu_model() -> Model:
    graph = GraphBuilder()
    graph.outputs = [graph.op("RELU", [graph.input([1, 8])], [1, 8])]
    return model(graph)


def _relu() -> Segment:
    return _segment(_relu_model())


def _weighted() -> Model:
    """A FULLY_CONNECTED int8 op with 8 bytes of weights and 8 of bias."""
    graph = GraphBuilder()
    x = graph.input([1, 4], DType.INT8, quantization=Q)
    w = graph.constant(np.ones((2, 4), np.int8), Quantization.per_tensor(0.5))
    b = graph.constant(np.zeros(2, np.int32), Quantization.per_tensor(0.25))
    y = graph.tensor([1, 2], DType.INT8, Q)
    graph.op("FULLY_CONNECTED", [x, w, b], outputs=[y])
    graph.outputs = [y]
    return model(graph)


def _view(found: Model) -> GraphView:
    segment = _segment(found)
    return GraphView(segment.graph, segment.nodes)


def _segment(found: Model) -> Segment:
    """All of a model as one segment."""
    from delegraph.core.graph.build import build
    from delegraph.core.ops import registry
    from delegraph.core.ops.nodes import infer_op
    from delegraph.core.runtime.plan import make_segment

    graph = build(found).main
    specs: dict[int, Any] = {}
    nodes = []
    for op in graph.ops:
        opdef = registry.find(op.name)
        assert opdef is not None
        node = infer_op(graph, op, opdef, specs)
        assert node is not None
        nodes.append(node)
    return make_segment(graph, tuple(nodes), specs, set(graph.outputs))


def _digits() -> str:
    from importlib import resources

    return str(resources.files("delegraph.demo") / "digits_int8.tflite")


def _input_shape(path: str) -> tuple[int, ...]:
    from delegraph.core.graph.build import build

    graph = build(dg.load(path)).main
    return graph.tensors[graph.inputs[0]].shape
