"""Delegates in a child process: the same answers, and a crash, a hang or a lie there is a failing device here."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tests.delegates.native.test_loader import segment_of
from tests.delegates.native.test_segment_model import segments_of
from tests.graphs import GraphBuilder, model
from tests.support import require, shared_path

import delegraph as dg
from delegraph.core.abi.native.isolation import IsolatedDelegate, Patience
from delegraph.core.abi.native.isolation.process import GoneError
from delegraph.core.abi.native.isolation.wire import BadMessage, Channel, ClosedError
from delegraph.core.abi.native.plugin import PluginSpec
from delegraph.core.abi.protocols import Device, Program
from delegraph.core.abi.values import DelegateError, ErrorCode, GraphView, Segment
from delegraph.core.graph.graph import Array
from delegraph.core.model.model import Model
from delegraph.core.runtime.packs import PackStore

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a process of its own needs POSIX")
EXAMPLE = Path(__file__).parents[1] / "example_delegate.py"
ROOT = Path(__file__).parents[3]


@pytest.fixture
def isolated(acme: Path) -> Iterator[IsolatedDelegate]:
    delegate = IsolatedDelegate(PluginSpec.of_path(acme), {}, Patience(call=5, compile=5))
    yield delegate
    delegate.close()


@pytest.fixture(scope="session")
def segment(dense: Model) -> Segment:
    return segment_of(dg.compile(dense, devices="reference"))


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie that its new parent has not waited for doesn't)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pid: int, timeout_s: float = 10.0) -> None:
    end = time.monotonic() + timeout_s
    while is_alive(pid):
        assert time.monotonic() < end, f"process {pid} is still there"
        time.sleep(0.02)


def wait_until(holds: Callable[[], object], timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)


GATE = """
    def _gated(*arguments, _open_ended={method}, _gate={gate!r}, _only={only}, **named):
        import pathlib, time
        end = time.monotonic() + 60
        while _only(*arguments) and not pathlib.Path(_gate).exists() and time.monotonic() < end:
            time.sleep(0.005)
        return _open_ended(*arguments, **named)
{method} = AddContext._gated
"""


def gated(folder: Path, method: str, only: str = "lambda *_: True") -> tuple[Path, Path]:
    """The Python example with a method that waits until a file is there; the example's path, and that file's."""
    path, gate = folder / "gated.py", folder / "gate"
    path.write_text(EXAMPLE.read_text() + GATE.format(method=method, gate=str(gate), only=only))
    return path, gate


def edited(folder: Path, *edits: tuple[str, str]) -> Path:
    """The Python example with these replacements."""
    text = EXAMPLE.read_text()
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "edited.py"
    path.write_text(text)
    return path


@pytest.fixture(scope="session")
def addition() -> Segment:
    """x + x of [8, 8] float32: what the Python example takes."""
    g = GraphBuilder()
    x = g.input([8, 8])
    g.outputs = [g.op("ADD", [x, x], [8, 8])]
    return segment_of(dg.compile(model(g), devices="reference"))


def run_once(device: Device, program: Program, image: Array) -> Array:
    """What a program of one input gives for an image of float32."""
    context = program.context(device.allocate(program.scratch_bytes))
    source, target = device.allocate(image.nbytes), device.allocate(image.nbytes)
    context.bind([source], [target])
    view, found = source.host_view(), target.host_view()
    assert view is not None and found is not None
    view.view(np.float32)[:] = image.reshape(-1)
    context.run().wait()
    return found.view(np.float32).reshape(image.shape)


def test_runs_a_model(acme: Path, dense: Model, image: Array, expected: Array) -> None:
    found = dg.load_delegate(acme, isolate=True)
    assert [info.id for info in found] == ["acme:0", "acme:1", "acme:2"] and found[1].may_hang
    compiled = dg.compile(dense, devices=["acme:1"], fallback="error")
    for _ in range(3):
        np.testing.assert_allclose(compiled(image), expected, rtol=1e-5, atol=1e-5)


FAULTS = {
    ("crash", "run"): (
        "run",
        "device lost",
        r"run: its process ended with SIGSEGV.*it said last: .*Segmentation",
    ),
    ("crash", "compile"): ("compile", "device lost", r"compile: its process ended with SIGSEGV"),
    ("crash", "load"): ("compile", "device lost", r"load: its process ended with SIGSEGV"),
    ("hang", "run"): ("run", "timeout", r"run: not ended in time"),
    ("fail", "run"): ("run", "device lost", r"run: the device fell off the bus"),
    ("lie", "run"): ("run", "internal", r"run: wrote past the end of output 0"),
    ("lie", "load"): ("compile", "internal", r"expected an alignment that is a power of two"),
}


@pytest.mark.parametrize(("fault", "place"), FAULTS)
def test_a_fault_is_a_fallback_event_and_the_answer_is_right(
    fault: str, place: str, acme: Path, dense: Model, image: Array, expected: Array
) -> None:
    moment, code, message = FAULTS[fault, place]
    dg.load_delegate(acme, {"misbehave": fault, "at": place}, isolate=True)
    compiled = dg.compile(dense, devices=["acme:0"], timeout_s=0.3 if fault == "hang" else 20.0)
    np.testing.assert_allclose(compiled(image), expected, rtol=1e-5, atol=1e-5)
    (event,) = compiled.receipt().events
    assert (event.moment, event.device, event.code) == (moment, "acme:0", code)
    assert re.search(message, event.message), event.message


def test_a_crash_while_asking_places_the_ops_elsewhere(acme: Path, dense: Model, image: Array, expected: Array) -> None:
    dg.load_delegate(acme, {"misbehave": "crash", "at": "supports"}, isolate=True)
    compiled = dg.compile(dense, devices=["acme:0"])
    np.testing.assert_allclose(compiled(image), expected, rtol=1e-5, atol=1e-5)
    assert "device lost: supports: its process ended with SIGSEGV" in compiled.placement.rows[0].refusals["acme:0"]


def test_a_killed_child_is_replaced(isolated: IsolatedDelegate, segment: Segment) -> None:
    device = isolated.open("acme:1", {})
    artifact = device.compile(segment, PackStore(None), {})
    program = device.load(artifact, segment, PackStore(None))
    first = isolated.process_id
    assert first is not None
    os.kill(first, signal.SIGKILL)
    with pytest.raises(DelegateError, match=r"acme:1: device lost: \w+: its process ended with SIGKILL"):
        device.allocate(64)
    with pytest.raises(DelegateError, match="its process is gone: it ended with SIGKILL"):
        program.context(device.allocate(0))
    assert device.load(artifact, segment, PackStore(None)).alignment == 64
    assert isolated.process_id not in (first, None) and not is_alive(first)


def test_a_hang_is_killed_after_its_grace(acme: Path, segment: Segment) -> None:
    options = {"misbehave": "hang", "at": "compile"}
    delegate = IsolatedDelegate(PluginSpec.of_path(acme), options, Patience(compile=0.2, grace=0.1))
    pid = delegate.process_id
    assert pid is not None
    start = time.monotonic()
    with pytest.raises(DelegateError, match="acme:0: timeout: compile: not ended in time"):
        delegate.open("acme:0", {}).compile(segment, PackStore(None), {})
    assert time.monotonic() - start < 5 and not is_alive(pid)
    delegate.close()


def test_closing_a_busy_device_ends_its_process(acme: Path, segment: Segment) -> None:
    delegate = IsolatedDelegate(PluginSpec.of_path(acme), {"misbehave": "hang", "at": "compile"})
    device, pid = delegate.open("acme:0", {}), delegate.process_id
    assert pid is not None
    codes: list[ErrorCode] = []

    def compile_it() -> None:
        try:
            device.compile(segment, PackStore(None), {})
        except DelegateError as exc:
            codes.append(exc.code)

    thread = threading.Thread(target=compile_it)
    thread.start()
    wait_until(lambda: device._open().asking.doing == "compile")
    device.close()
    thread.join(10)
    assert codes == [ErrorCode.DEVICE_LOST] and not is_alive(pid)
    delegate.close()


def test_closing_a_device_leaves_the_calls_of_others_alone(tmp_path: Path, segment: Segment) -> None:
    """Such as those of the same device, opened anew behind a failure while the old one is still being closed."""
    path, gate = gated(tmp_path, "AddDevice.supports")
    delegate = IsolatedDelegate(PluginSpec.of_path(path))
    old, new, pid = delegate.open("adder", {}), delegate.open("adder", {}), delegate.process_id
    with ThreadPoolExecutor(1) as pool:
        answers = pool.submit(new.supports, GraphView(segment.graph, segment.nodes))
        wait_until(lambda: new._open().asking.doing == "supports")
        old.close()
        gate.touch()
        assert len(answers.result(60)) == 3 and delegate.process_id == pid
    delegate.close()


def test_runs_go_beside_a_compilation(tmp_path: Path, addition: Segment, segment: Segment) -> None:
    path, gate = gated(tmp_path, "AddDevice.compile", "lambda self, segment, *_: len(segment.nodes) > 1")
    delegate = IsolatedDelegate(PluginSpec.of_path(path))
    device, packs = delegate.open("adder", {}), PackStore(None)
    program = device.load(device.compile(addition, packs, {}), addition, packs)
    with ThreadPoolExecutor(1) as pool:
        compiling = pool.submit(device.compile, segment, packs, {})
        wait_until(lambda: device._open().asking.doing == "compile")
        x = np.arange(64, dtype=np.float32).reshape(8, 8)
        np.testing.assert_array_equal(run_once(device, program, x), 2 * x)
        assert device._open().asking.doing == "compile"
        gate.touch()
        assert compiling.result(60).format == "adder-1"
    delegate.close()


def test_a_call_waits_its_turn_without_harm(tmp_path: Path, addition: Segment, segment: Segment) -> None:
    """One that gave up before it began kills nobody's child."""
    path, gate = gated(tmp_path, "AddDevice.supports")
    delegate = IsolatedDelegate(PluginSpec.of_path(path))
    device, pid = delegate.open("adder", {}), delegate.process_id
    with ThreadPoolExecutor(2) as pool:
        asking = pool.submit(device.supports, GraphView(segment.graph, segment.nodes))
        wait_until(lambda: device._open().asking.doing == "supports")
        soon = time.monotonic() + 0.01
        compiling = pool.submit(device.compile, addition, PackStore(None), {}, deadline=soon)
        wait_until(lambda: time.monotonic() > soon)
        gate.touch()
        with pytest.raises(DelegateError, match="timeout: compile: no time was left to begin"):
            compiling.result(60)
        assert len(asking.result(60)) == 3 and delegate.process_id == pid
    delegate.close()


def test_a_child_that_ends_for_another_call_is_asked_anew(tmp_path: Path, segment: Segment) -> None:
    path, gate = gated(tmp_path, "AddDevice.supports")
    delegate = IsolatedDelegate(PluginSpec.of_path(path))
    device, child = delegate.open("adder", {}), delegate.child()
    with ThreadPoolExecutor(1) as pool:
        answers = pool.submit(device.supports, GraphView(segment.graph, segment.nodes))
        wait_until(lambda: device._open().asking.doing == "supports")
        gate.touch()
        child.kill("it was killed: run had not ended in time")
        assert len(answers.result(60)) == 3
    with pytest.raises(GoneError, match="device lost: its process is gone: it was killed: run had not ended in time"):
        child.control.call("adder", {"do": "lane"}, limit_s=5)
    delegate.close()


def test_a_child_with_another_plug_in_is_refused(tmp_path: Path, addition: Segment) -> None:
    """Its artifacts would be kept, and found, under what the first one was."""
    path = edited(tmp_path)
    delegate = IsolatedDelegate(PluginSpec.of_path(path))
    device, infos = delegate.open("adder", {}), delegate.devices()
    edited(tmp_path, ('Artifact("adder-1")', 'Artifact("adder-1", b"another layout")'))
    delegate.child().kill()
    with pytest.raises(DelegateError, match="device lost: its plug-in changed on disk, or its devices did; load"):
        device.compile(addition, PackStore(None), {})
    assert delegate.process_id is None and delegate.devices() == infos
    edited(tmp_path)
    os.utime(path, ns=(0, int(infos[0].fingerprint["plug-in"].split()[-1])))
    assert device.compile(addition, PackStore(None), {}).payload == b""
    delegate.close()


def test_buffers_are_aligned_as_the_program_says(tmp_path: Path, addition: Segment) -> None:
    path = edited(
        tmp_path,
        ("class AddProgram(Program):", "class AddProgram(Program):\n    alignment = 4096\n"),
        ("return HostBuffer(memory)", "return None"),
        ("return allocate(size_bytes, alignment)", "assert alignment == 4096; return allocate(size_bytes, alignment)"),
    )
    delegate = IsolatedDelegate(PluginSpec.of_path(path))
    device, packs = delegate.open("adder", {}), PackStore(None)
    program = device.load(device.compile(addition, packs, {}), addition, packs)
    x = np.ones((8, 8), np.float32)
    np.testing.assert_array_equal(run_once(device, program, x), 2 * x)
    delegate.close()


@pytest.mark.parametrize("error", [MemoryError("no memory"), dg.InvalidArgument("pack", "a name", "none"), OSError(28)])
def test_packs_that_fail_are_an_answer(error: Exception, isolated: IsolatedDelegate, segment: Segment) -> None:
    """A child that were left waiting for it would take the next request for the answer."""

    class Failing(PackStore):
        def get(self, name: str, make: Callable[[], Array] | None = None) -> Array:
            raise error

    device, pid = isolated.open("acme:1", {}), isolated.process_id
    artifact = device.compile(segment, PackStore(None), {})
    with pytest.raises(DelegateError, match="load: the weights could not be packed") as caught:
        device.load(artifact, segment, Failing(None))
    is_memory = isinstance(error, MemoryError)
    assert caught.value.code is (ErrorCode.OUT_OF_MEMORY if is_memory else ErrorCode.INTERNAL)
    assert len(device.supports(GraphView(segment.graph, segment.nodes))) == 3 and isolated.process_id == pid


def test_a_call_that_is_broken_off_ends_the_child(isolated: IsolatedDelegate, segment: Segment) -> None:
    class Interrupted(PackStore):
        def get(self, name: str, make: Callable[[], Array] | None = None) -> Array:
            raise KeyboardInterrupt

    device, pid = isolated.open("acme:1", {}), isolated.process_id
    artifact = device.compile(segment, PackStore(None), {})
    with pytest.raises(KeyboardInterrupt):
        device.load(artifact, segment, Interrupted(None))
    assert isolated.process_id is None
    assert len(device.supports(GraphView(segment.graph, segment.nodes))) == 3 and isolated.process_id != pid


PACKING = """
        import threading
        from concurrent.futures import ThreadPoolExecutor
        together = threading.Barrier(8)

        def pack(i):
            together.wait(30)
            found = packs.get(f"adder/{i}", lambda: np.full(50000, i, np.int32))
            assert found[0] == i, (found[0], i)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(pack, range(64)))
        AddDevice.packs = packs
        return Artifact("adder-1")"""


def test_packs_are_for_any_thread_and_for_the_call_only(tmp_path: Path, addition: Segment) -> None:
    late = "AddDevice.packs.get('adder/late', lambda: np.ones(1))\n        return AddProgram(segment)"
    path = edited(tmp_path, ('\n        return Artifact("adder-1")', PACKING), ("return AddProgram(segment)", late))
    delegate = IsolatedDelegate(PluginSpec.of_path(path))
    device, packs = delegate.open("adder", {}), PackStore(None)
    artifact = device.compile(addition, packs, {})
    assert packs.made == 64
    with pytest.raises(DelegateError, match="packs are lent for the time of compile or load only"):
        device.load(artifact, addition, packs)
    delegate.close()


def test_closing_leaves_nothing(acme: Path) -> None:
    delegate = IsolatedDelegate(PluginSpec.of_path(acme))
    pid = delegate.process_id
    delegate.close()
    assert pid is not None and not is_alive(pid)


PARENT = """
import os, signal, sys, threading, time
from delegraph.core.abi.native.isolation import IsolatedDelegate
from delegraph.core.abi.native.plugin import PluginSpec
delegate = IsolatedDelegate(PluginSpec.of_path(sys.argv[1]), {"misbehave": sys.argv[2], "at": "open"})
print(delegate.process_id, flush=True)
if sys.argv[2] == "hang":
    threading.Thread(target=lambda: delegate.open("acme:0", {}), daemon=True).start()
    time.sleep(0.3)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("fault", ["none", "hang"])
def test_a_child_ends_with_its_parent(fault: str, acme: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PARENT, str(acme), fault],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    wait_until_gone(int(done.stdout))


FORKED = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from delegraph.core.abi.native.isolation import IsolatedDelegate
from delegraph.core.abi.native.plugin import PluginSpec
delegate = IsolatedDelegate(PluginSpec.of_path(sys.argv[1]))
device, first = delegate.open("acme:1", {}), delegate.process_id
pid = os.fork()
if pid == 0:
    assert delegate.process_id is None
    device.allocate(64)
    ok = delegate.process_id not in (None, first)
    delegate.close()
    sys.exit(0 if ok else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
device.allocate(64)
assert delegate.process_id == first
delegate.close()
print("ok")
"""


def test_a_fork_gets_a_child_of_its_own(acme: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORKED, str(acme)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout == "ok\n" and not done.stderr, done.stderr


def test_a_python_delegate_is_isolated_too(dense: Model) -> None:
    delegate = IsolatedDelegate(PluginSpec.of_path(EXAMPLE))
    assert (delegate.name, delegate.version) == ("adder", "1")
    segment = segment_of(dg.compile(dense, devices="reference"))
    answers = delegate.open("adder", {}).supports(GraphView(segment.graph, segment.nodes))
    assert [a.constraint for a in answers] == ["adder.op", "adder.op", ""]
    delegate.close()


@pytest.mark.parametrize("name", ["mlperf_resnet8_int8", "face_landmark", "mlperf_resnet8_float"])
def test_segments_arrive_whole(name: str) -> None:
    """What the other end builds of a segment gives the reference's results."""
    require("shared")
    from tests.delegates.native.test_segment_model import random_inputs, reference_results

    from delegraph.core.abi.native.isolation import encoding
    from delegraph.core.abi.native.segment_model import segment_model

    for sent in segments_of(shared_path() / "models" / "real" / f"{name}.tflite"):
        model = segment_model(sent)
        header, size = encoding.segment_to_json(model)
        memory = np.empty(size, np.uint8)
        encoding.fill(header, model, memory)
        arrived = encoding.segment_of_json(header, model.to_bytes(), memory)
        assert [node.op.place for node in arrived.nodes] == [node.op.place for node in sent.nodes]
        for one, other in zip(arrived.nodes, sent.nodes, strict=True):
            assert one.options == other.options
            for a, b in zip((*one.inputs, *one.outputs), (*other.inputs, *other.outputs), strict=True):
                assert (a is None) == (b is None)
                if a is not None and b is not None:
                    assert (a.dtype, a.shape, a.quantization) == (b.dtype, b.shape, b.quantization)
        inputs = random_inputs(sent)
        for x, y in zip(reference_results(arrived, inputs), reference_results(sent, inputs), strict=True):
            np.testing.assert_array_equal(x, y)


LIES = {
    "no answers": ('return {"answers": 7}, ()', "expected answers"),
    "too few": ('return {"answers": []}, ()', "expected 3 answers, found 0"),
    "no verdict": ('return {"answers": [{"verdict": "maybe"}] * 3}, ()', "expected a verdict, found 'maybe'"),
    "garbage": ('self._channel.socket.sendall(b"x" * 1000); return {}, ()', "expected a frame"),
    "too large": ('self._channel.socket.sendall(b"dgp1" + b"\\xff" * 12); return {}, ()', "expected a frame"),
    "another's": (
        'self._channel.send({"request": 1 - message.header["request"]}); return {}, ()',
        "belongs to request",
    ),
    "a question": ('return {"ask": "pack", "name": "x"}, ()', "nothing to ask for"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_child_is_not_believed(name: str, tmp_path: Path, segment: Segment) -> None:
    body, message = LIES[name]
    path = tmp_path / "liar.py"
    path.write_text(
        EXAMPLE.read_text()
        + "\nfrom delegraph.core.abi.native.isolation import child\n"
        + f"def lie(self, message, header):\n    {body}\nchild._Server._do_supports = lie\n"
    )
    delegate = IsolatedDelegate(PluginSpec.of_path(path), {}, Patience(call=5))
    with pytest.raises(DelegateError, match=message) as caught:
        delegate.open("adder", {}).supports(GraphView(segment.graph, segment.nodes))
    assert caught.value.code is ErrorCode.INTERNAL
    delegate.close()


def test_a_child_makes_packs_of_its_own_delegate_only(tmp_path: Path, segment: Segment) -> None:
    path = tmp_path / "thief.py"
    path.write_text(
        EXAMPLE.read_text()
        + "\n    def _packed(self, segment, packs, options, *, deadline=None):\n"
        + "        return Artifact(str(packs.get(options['name'], lambda: np.arange(6.0)).tolist()))\n"
        + "AddDevice.compile = AddContext._packed\n"
    )
    delegate = IsolatedDelegate(PluginSpec.of_path(path), {}, Patience(compile=5))
    packs = PackStore(None)
    device = delegate.open("adder", {})
    assert device.compile(segment, packs, {"name": "adder/x"}).format == str(np.arange(6.0).tolist())
    assert packs.made == 1
    assert device.compile(segment, packs, {"name": "adder/x"}).format == str(np.arange(6.0).tolist())
    with pytest.raises(DelegateError, match="does not start with 'adder/'"):
        device.compile(segment, packs, {"name": "cpu/x"})
    delegate.close()


def test_what_can_not_be_loaded_says_why(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("import no_such_module\n")
    with pytest.raises(dg.InvalidArgument, match="No module named 'no_such_module'"):
        dg.load_delegate(path, isolate=True)
    path.write_text("import os\nos._exit(3)\n")
    with pytest.raises(DelegateError, match="device lost: hello: its process ended with exit code 3"):
        dg.load_delegate(path, isolate=True)
    with pytest.raises(dg.InvalidArgument, match="option 'a': expected plain values"):
        dg.load_delegate(path, {"a": object()}, isolate=True)


def test_messages_arrive_as_they_were_sent() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        one, other = Channel(ours), Channel(theirs)
        one.send({"do": "x", "n": [1, 2.5, "ü"]}, (b"", b"abc", memoryview(b"defg")[1:]))
        found = other.receive(time.monotonic() + 5)
        assert found.header == {"do": "x", "n": [1, 2.5, "ü"]} and found.blobs == (b"", b"abc", b"efg")
        with pytest.raises(TimeoutError):
            other.receive(time.monotonic() + 0.01)
        for bad in (b"dgp1" + bytes(12) + b"", b"dgp1\x02\0\0\0" + bytes(8) + b"[]", b"nope" + bytes(12)):
            ours.sendall(bad)
            with pytest.raises(BadMessage):
                other.receive(time.monotonic() + 5)
        ours.close()
        with pytest.raises(ClosedError):
            other.receive()
