"""A delegate in C, in this process: runs, serialises, and whatever it does wrong has its error and its fallback."""

from __future__ import annotations

import _thread
import ctypes
import gc
import os
import re
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.delegates.native.compiler import EXAMPLE, library
from tests.graphs import GraphBuilder, model

import delegraph as dg
from delegraph import registry
from delegraph.core.abi import host
from delegraph.core.abi.native.library import Handle
from delegraph.core.abi.native.loader import NativeDelegate
from delegraph.core.abi.native.plugin import PluginSpec, create
from delegraph.core.abi.values import Artifact, DelegateError, ErrorCode, GraphView, Segment, Verdict
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array
from delegraph.core.model.model import Model
from delegraph.core.runtime.packs import PackStore


def segment_of(compiled: dg.CompiledModel) -> Segment:
    (plan,) = compiled._runners[0].plans()
    (step,) = plan.steps
    return step.segment  # type: ignore[union-attr]


@pytest.fixture(scope="session")
def segment(dense: Model) -> Segment:
    return segment_of(dg.compile(dense, devices="reference"))


def live_objects(path: Path) -> int:
    gc.collect()
    return int(ctypes.CDLL(str(path)).acme_live_objects())


@pytest.mark.parametrize("device", ["acme:0", "acme:1"])
def test_runs_a_model(device: str, acme: Path, dense: Model, image: Array, expected: Array) -> None:
    dg.load_delegate(acme)
    compiled = dg.compile(dense, devices=[device], fallback="error")
    for _ in range(3):
        np.testing.assert_allclose(compiled(image), expected, rtol=1e-5, atol=1e-5)
    assert compiled.receipt().devices == {device: 1}


def test_lists_its_devices_with_what_is_wrong(acme: Path) -> None:
    found = dg.load_delegate(acme)
    assert [info.id for info in found] == ["acme:0", "acme:1", "acme:2"]
    assert found[0].dtypes == ("float32",) and found[0].fingerprint["firmware"] == "7"
    assert found[0].limits.max_segments is None and found[0].launch_ns == 20000
    assert (found[2].available, found[2].reason, found[2].remedy) == (
        False,
        "its firmware is too old",
        "run acme-update",
    )
    (delegate,) = registry.loaded()
    assert list(delegate.devices()) == found


def test_says_why_it_takes_an_op_or_not(acme: Path) -> None:
    g = GraphBuilder()
    x, row = g.input([2, 4]), g.input([4])
    y = g.op("MUL", [x, x], [2, 4])
    z = g.op("ADD", [y, row], [2, 4])
    i = g.input([4], DType.INT32)
    g.op("ADD", [i, i], [4], DType.INT32)
    g.outputs = [g.op("ADD", [z, z], [2, 4], fused_activation_function=4)]
    view = segment_of(dg.compile(model(g), devices="reference"))
    answers = NativeDelegate(acme).open("acme:1", {}).supports(GraphView(view.graph, view.nodes))
    assert [a.constraint for a in answers] == ["acme.op", "acme.broadcast", "acme.dtype", "acme.activation"]
    assert answers[2].verdict is Verdict.NO and answers[2].limit == "float32" and answers[2].advice


def test_an_artifact_is_bytes_that_load_in_another_device(acme: Path, segment: Segment, image: Array) -> None:
    one = NativeDelegate(acme).open("acme:1", {})
    artifact = one.compile(segment, PackStore(None), {})
    assert artifact.format == "acme-1"
    assert one.compile(segment, PackStore(None), {}).payload == artifact.payload
    other = NativeDelegate(acme).open("acme:0", {})
    program = other.load(Artifact(artifact.format, memoryview(bytes(artifact.payload))), segment, PackStore(None))
    assert program.scratch_bytes == 2 * 3 * 16 * 4 and program.alignment == 64
    context = program.context(other.allocate(program.scratch_bytes))
    out = np.empty((3, 16), np.float32)
    context.bind([host.HostBuffer(image)], [host.HostBuffer(out)])
    context.run().wait()
    assert out.any()


DAMAGED_AT = {"op": -64, "tensor": -48, "output": -24}  # fields of the last step


def with_checksum(payload: bytearray) -> bytes:
    """The payload with the checksum that it should have: FNV-1a over all that follows it, in bytes 8 to 16."""
    found = 0xCBF29CE484222325
    for byte in payload[16:]:
        found = (found ^ byte) * 0x100000001B3 % 2**64
    return bytes(payload[:8]) + found.to_bytes(8, "little") + bytes(payload[16:])


def test_an_artifact_has_a_checksum_and_names_its_packs(acme: Path, segment: Segment) -> None:
    packs = PackStore(None)
    made = NativeDelegate(acme).open("acme:1", {}).compile(segment, packs, {})
    assert with_checksum(bytearray(made.payload)) == made.payload
    (weights,) = (node.input(1).value for node in segment.nodes if node.op.name == "FULLY_CONNECTED")
    assert weights is not None
    assert made.packs == (f"acme/transposed/{packs.digest(weights)}",)


@pytest.mark.parametrize("damage", ["short", "magic", "op", "tensor", "output", "format"])
def test_a_damaged_artifact_is_refused(damage: str, acme: Path, segment: Segment) -> None:
    device = NativeDelegate(acme).open("acme:1", {})
    good = device.compile(segment, PackStore(None), {})
    payload = bytearray(good.payload)
    if damage == "short":
        del payload[-8:]
    elif damage == "magic":
        payload[0] ^= 1
    elif damage in DAMAGED_AT:
        at = DAMAGED_AT[damage]
        payload[at : at + 8] = (99 if damage != "output" else 0).to_bytes(8, "little")
    bad = Artifact("acme-0" if damage == "format" else good.format, with_checksum(payload))
    with pytest.raises(DelegateError, match=r"artifact refused: load: damaged, or of another segment"):
        device.load(bad, segment, PackStore(None))


def test_weights_are_packed_once(acme: Path, segment: Segment) -> None:
    packs = PackStore(None)
    device = NativeDelegate(acme).open("acme:1", {})
    artifact = device.compile(segment, packs, {})
    programs = [device.load(artifact, segment, packs) for _ in range(3)]
    assert packs.made == 1 and len(programs) == 3


def test_everything_is_released_once(tmp_path: Path, dense: Model, image: Array) -> None:
    path = library(tmp_path)
    dg.load_delegate(path)
    compiled = dg.compile(dense, devices=["acme:1"])
    compiled(image)
    assert live_objects(path) > 0
    device = NativeDelegate(path).open("acme:0", {"misbehave": "fail", "at": "compile"})
    with pytest.raises(DelegateError):
        device.compile(segment_of(compiled), PackStore(None), {})
    del compiled, device
    registry._slots.pop("acme:1").lose()
    assert live_objects(path) == 0


FAILURES: dict[tuple[str, str], tuple[ErrorCode, str]] = {
    ("fail", "open"): (ErrorCode.DEVICE_LOST, "open: the cable is out"),
    ("fail", "compile"): (ErrorCode.OUT_OF_MEMORY, "compile: the segment does not fit"),
    ("fail", "load"): (ErrorCode.ARTIFACT_REFUSED, "load: made for another firmware"),
    ("fail", "run"): (ErrorCode.DEVICE_LOST, "run: the device fell off the bus"),
    ("lie", "open"): (ErrorCode.INTERNAL, "open: expected an object or an error, found NULL"),
    ("lie", "compile"): (ErrorCode.INTERNAL, r"compile: expected \d+ bytes, found NULL"),
    ("lie", "load"): (ErrorCode.INTERNAL, "load: expected an alignment that is a power of two up to 4096, found 3"),
    ("lie", "run"): (ErrorCode.INTERNAL, "run: wrote past the end of output 0"),
}


@pytest.mark.parametrize(("fault", "place"), FAILURES)
def test_misbehaviour_is_an_event_and_the_answer_is_right(
    fault: str, place: str, acme: Path, dense: Model, image: Array, expected: Array
) -> None:
    code, message = FAILURES[fault, place]
    dg.load_delegate(acme, {"misbehave": fault, "at": place})
    compiled = dg.compile(dense, devices=["acme:0"])
    np.testing.assert_allclose(compiled(image), expected, rtol=1e-5, atol=1e-5)
    if place == "open":  # found when the plan asks what the device supports
        assert set(re.findall(r"cable is out|found NULL", repr(compiled.placement)))
        return
    (event,) = compiled.receipt().events
    assert (event.device, event.code, event.ops) == ("acme:0", code.value, (0, 1, 2))
    assert re.search(message, event.message)


@pytest.mark.parametrize(("fault", "found"), [("fail", "no answer"), ("lie", "expected 3 answers, found 4")])
def test_a_device_that_gives_no_proper_answer_gets_nothing(
    fault: str, found: str, acme: Path, dense: Model, image: Array, expected: Array
) -> None:
    dg.load_delegate(acme, {"misbehave": fault, "at": "supports"})
    compiled = dg.compile(dense, devices=["acme:0"])
    np.testing.assert_allclose(compiled(image), expected, rtol=1e-5, atol=1e-5)
    assert found in compiled.placement.rows[0].refusals["acme:0"]


def test_a_hang_is_left_alone(acme: Path, dense: Model, image: Array, expected: Array) -> None:
    """It hangs until the end of the process, whose daemon threads nobody waits for."""
    dg.load_delegate(acme, {"misbehave": "hang", "at": "run", "hang_ms": 24 * 3600 * 1000})
    compiled = dg.compile(dense, devices=["acme:0"], timeout_s=0.1)
    np.testing.assert_allclose(compiled(image), expected, rtol=1e-5, atol=1e-5)
    (event,) = compiled.receipt().events
    assert event.code == "timeout"


def test_fallback_error_raises_it(acme: Path, dense: Model, image: Array) -> None:
    dg.load_delegate(acme, {"misbehave": "fail", "at": "run"})
    compiled = dg.compile(dense, devices=["acme:0"], fallback="error")
    with pytest.raises(DelegateError, match="acme:0: device lost: run: the device fell off the bus"):
        compiled(image)


@pytest.mark.parametrize("has_unbind", [True, False])
def test_bound_memory_stays_until_the_plug_in_let_go(has_unbind: bool, tmp_path: Path, segment: Segment) -> None:
    """A plug-in without ``unbind`` may look at what was bound until the next bind."""
    path = library(tmp_path, *([] if has_unbind else ["-DACME_SIZE=offsetof(dg_delegate_api, unbind)"]))
    device, packs = NativeDelegate(path).open("acme:1", {}), PackStore(None)
    program = device.load(device.compile(segment, packs, {}), segment, packs)
    context = program.context(device.allocate(program.scratch_bytes))

    def bind() -> list[weakref.ref[Array]]:
        arrays = np.ones((3, 32), np.float32), np.empty((3, 16), np.float32)
        context.bind([host.HostBuffer(arrays[0])], [host.HostBuffer(arrays[1])])
        return [weakref.ref(array) for array in arrays]

    def alive(memory: list[weakref.ref[Array]]) -> list[bool]:
        gc.collect()
        return [array() is not None for array in memory]

    first = bind()
    context.run().wait()
    assert alive(first) == [True, True]
    context.unbind()
    assert alive(first) == [not has_unbind] * 2
    second = bind()
    assert alive(first) == [False, False] and alive(second) == [True, True]
    context.run().wait()


def test_nothing_is_released_within_a_call(tmp_path: Path, segment: Segment) -> None:
    """Such as by a garbage collection while the plug-in, which may hold a lock of its own, asks for a pack."""
    text = EXAMPLE.read_text()
    for old, new in (
        ("code = packs->get(", "packing = 1;\n  code = packs->get("),
        ("  if (code == 0 && size !=", "  packing = 0;\n  if (code == 0 && size !="),
        ("static long live_objects;", "static int packing;\nstatic long wrong, live_objects;\n" + ACME_WRONG),
        ("context(dg_context *context) { release", "context(dg_context *context) { wrong += packing; release"),
    ):
        assert old in text, old
        text = text.replace(old, new)
    source = tmp_path / "acme_packing.c"
    source.write_text(text)
    path = library(tmp_path, f"-I{EXAMPLE.parent}", source=source)
    device = NativeDelegate(path).open("acme:1", {})

    class Collecting(PackStore):
        def get(self, name: str, make: Callable[[], Array] | None = None) -> Array:
            gc.collect()
            return super().get(name, make)

    artifact = device.compile(segment, PackStore(None), {})
    program = device.load(artifact, segment, PackStore(None))
    before = live_objects(path)
    contexts: list[Any] = [program.context(device.allocate(program.scratch_bytes)) for _ in range(3)]
    contexts.append(contexts)  # a cycle: only a collection finds it
    assert live_objects(path) == before + 3
    gc.disable()  # the one that finds it is the one in packs->get
    try:
        del contexts
        again = device.load(artifact, segment, Collecting(None))
    finally:
        gc.enable()
    assert ctypes.CDLL(str(path)).acme_wrong() == 0
    assert live_objects(path) == before + 1 and again.alignment == 64


ACME_WRONG = "DG_EXPORT long acme_wrong(void);\nDG_EXPORT long acme_wrong(void) { return wrong; }"


def test_nothing_is_released_on_a_thread_of_the_plug_in() -> None:
    """It may be in ``log``, and hold a lock: ours does the release."""
    released: list[int] = []
    done = threading.Event()

    def release(pointer: int) -> None:
        released.append(threading.get_ident())
        done.set()

    handles = [Handle(1, release)]
    foreign = _thread.start_new_thread(handles.clear, ())  # unknown to threading, as one made in C
    assert done.wait(60) and released != [foreign]
    handles.append(Handle(2, release))
    handles.clear()
    assert released[1:] == [threading.get_ident()]


def test_a_rebuilt_library_is_refused(tmp_path: Path) -> None:
    """The process has the old code: its artifacts must not be kept as the new one's."""
    path = library(tmp_path)
    delegate = create(PluginSpec.of_path(path), {})
    before = delegate.devices()
    os.replace(library(tmp_path, "-g", name="new.so"), path)
    with pytest.raises(dg.InvalidArgument, match=r"changed on disk since it was loaded; restart, or isolate=True"):
        dg.load_delegate(path)
    assert delegate.devices() == before
    path.unlink()
    with pytest.raises(dg.InvalidArgument, match="changed on disk since it was loaded"):
        NativeDelegate(path)


BROKEN = {
    "other major": (["-DACME_MAJOR=1"], r"expected delegate ABI 0\.x, found 1\.2; rebuild it"),
    "older than the C ABI": (["-DACME_MINOR=1"], r"expected delegate ABI 0\.2 or newer, found 0\.1"),
    "too small": (["-DACME_SIZE=24"], r"expected a complete dg_delegate_api, found struct_size 24"),
    "nonsense": (["-DACME_SIZE=4000000000u"], r"expected a complete dg_delegate_api, found struct_size 4000000000"),
    "no function": (["-DACME_RUN=NULL", "-Wno-unused-function"], r"found NULL for run"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_libraries_are_refused_by_name(name: str, tmp_path: Path) -> None:
    defines, message = BROKEN[name]
    path = library(tmp_path, *defines)
    with pytest.raises(dg.InvalidArgument, match=message) as caught:
        dg.load_delegate(path)
    assert str(path) in str(caught.value)
    assert registry.loaded() == ()


@pytest.mark.parametrize(
    "define", ["-DACME_SIZE=offsetof(dg_delegate_api, check)", "-DACME_SIZE=sizeof(dg_delegate_api) + 64"]
)
def test_older_and_newer_tables_load(define: str, tmp_path: Path, dense: Model, image: Array, expected: Array) -> None:
    """Of a shorter table, nothing is read past its end; of a longer one, what is known."""
    dg.load_delegate(library(tmp_path, define, "-DACME_MINOR=3"))
    compiled = dg.compile(dense, devices=["acme:1"], fallback="error")
    np.testing.assert_allclose(compiled(image), expected, rtol=1e-5, atol=1e-5)


def test_what_is_no_plug_in_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "other.c"
    source.write_text("int other(void);\nint other(void) { return 0; }\n")
    with pytest.raises(dg.InvalidArgument, match="expected the symbol delegraph_delegate_entry, found none"):
        dg.load_delegate(library(tmp_path, source=source))
    (tmp_path / "text.so").write_text("hello")
    with pytest.raises(dg.InvalidArgument, match="expected a shared library"):
        dg.load_delegate(tmp_path / "text.so")
    with pytest.raises(dg.InvalidArgument, match="which is none; check the path"):
        dg.load_delegate(tmp_path / "missing.so")


@pytest.mark.parametrize("value", [None, object(), {"a": 1}, 2**63, [1, 2.5]])
def test_options_are_plain_values(value: Any, acme: Path) -> None:
    options: Mapping[str, Any] = {"mode": value}
    with pytest.raises(dg.InvalidArgument, match="option 'mode': expected a bool, int, float, str or whole numbers"):
        dg.load_delegate(acme, options)
