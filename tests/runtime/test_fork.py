"""After a fork nothing of the parent's device side is used: the child opens its devices again, or falls back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import require, shared_path

ROOT = Path(__file__).parents[2]

SCRIPT = """
import os, sys
import numpy as np
import delegraph as dg

path, device = sys.argv[1:]
model = dg.compile(path, devices=[device])
x = np.zeros([max(1, n) for n in model.inputs[0].shape], model.inputs[0].dtype.numpy)
before = model(x).tobytes()
child = os.fork()
if not child:
    ok = model(x).tobytes() == before
    expected = ["device lost"] if device.startswith("opencl") else []  # its drivers don't survive a fork
    ok = ok and [e.code for e in model.receipt().events if e.moment == "run"] == expected
    os._exit(0 if ok else 1)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert model(x).tobytes() == before
print("the same")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("device", ["reference", "cpu", "nnapi:sample-all", "opencl:0"])
def test_a_child_computes_the_same(device: str) -> None:
    require("shared")
    if device.startswith("opencl"):
        require("opencl")
    path = shared_path() / "models" / "real" / "tvm_mnist_int8_io.tflite"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(path), device],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "the same\n", done.stderr


LOCKS = """
import os, signal, threading
import delegraph as dg
from delegraph import plugins, registry
from delegraph.core.runtime.health import Health
from tests.support_devices import EchoDelegate
from tests.runtime.test_fallback import X, chain, check

parent, never = os.getpid(), threading.Event()
held = threading.Semaphore(0)

def stop():
    "Where a thread of the parent stays until the end, with whatever locks it has."
    if os.getpid() == parent:
        held.release()
        never.wait()

class Slow(EchoDelegate):
    def devices(self):
        stop()
        return super().devices()

health = Health(lambda: stop() or 0.0)
os.environ["DELEGRAPH_DELEGATES"] = "slow-plugin"
plugins._load_allowed = lambda name: stop() or loaded.append(name)
loaded = []
slow = Slow("slow", lambda node: True)
for task in (lambda: health.failed("a", "why"), registry.loaded, lambda: registry.add(slow)):
    threading.Thread(target=task, daemon=True).start()
    held.acquire()
child = os.fork()
if not child:
    signal.alarm(60)  # ends a child that waits for a thread which it does not have
    assert health.failed("a", "why") > 0 and health.quarantine("a")
    registry.add(slow)
    assert registry.device("echo:slow").id == "echo:slow"
    check(dg.compile(chain(), devices=["echo:slow"])(X))
    os._exit(0 if loaded == ["slow-plugin"] else 1)
_, status = os.waitpid(child, 0)
print("status", status, flush=True)
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_does_not_wait_for_the_parents_threads() -> None:
    """Threads of the parent are in the middle of registering, loading and noting a failure when it forks."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOCKS], capture_output=True, text=True, timeout=120, cwd=ROOT
    )
    assert done.stdout == "status 0\n", done.stderr


CLOSING = """
import gc, os, sys
import delegraph as dg
from tests.support_devices import EchoDelegate, registered
from tests.runtime.test_fallback import X, chain, check

def say(text):
    os.write(1, f"{text} {'in the parent' if os.getpid() == parent else 'in the child'}\\n".encode())

class Closing(EchoDelegate):
    def open(self, device_id, options, host=None):
        opened = super().open(device_id, options, host)
        load = opened.load
        def loaded(*args):
            program = load(*args)
            program.close = lambda: say("closed")
            return program
        opened.load = loaded
        return opened

parent = os.getpid()
with registered(Closing("it", lambda node: True)):
    model = dg.compile(chain(), devices=["echo:it"], fallback="error")
    check(model(X))
    child = os.fork()
    if not child:
        del model
        gc.collect()
        sys.exit()  # the usual way out, on which finalizers run
    os.waitpid(child, 0)
    say("waited")
    del model
    gc.collect()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_closes_nothing_of_its_parents() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CLOSING], capture_output=True, text=True, timeout=120, cwd=ROOT
    )
    assert done.stdout == "waited in the parent\nclosed in the parent\n", done.stderr


EVERY_LOCK = """
import os, sys, threading
from delegraph_locks import made  # before delegraph makes any
import faulthandler
import numpy as np
import delegraph as dg
from tests.runtime.test_fallback import X, chain, check
from tests.runtime.test_runner import reshape_by_data
from tests.support_devices import EchoDelegate, registered

def use(model):
    "Most of what takes a lock: devices, compiling (for the store, and from it), running, receipts, cutting late parts."
    check(model(X))
    assert dg.devices()
    for _ in range(2):
        fresh = dg.compile(chain(), devices=["echo:it"])
        check(fresh(X))
        late = dg.compile(reshape_by_data(), devices=["cpu"])
        late(np.zeros(6, np.float32), np.array([os.getpid() % 2 + 1, 6 // (os.getpid() % 2 + 1)], np.int32))
        assert fresh.receipt().segments and model.receipt().segments and fresh.placement
    dg.load_delegate(sys.argv[1])

with registered(EchoDelegate("it", lambda node: True, may_hang=True)):
    model = dg.compile(chain(), devices=["echo:it"])
    use(model)
    held, never = threading.Event(), threading.Event()
    def hold():
        "Has every lock that is free, as threads in the middle of something might."
        for lock in list(made):
            lock.acquire(blocking=False)
        held.set()
        never.wait()
    threading.Thread(target=hold, daemon=True).start()
    held.wait()
    child = os.fork()
    if not child:
        faulthandler.dump_traceback_later(60, exit=True)  # says where a child waits for a thread that it has not
        use(model)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(len(made) > 10, "status", status, flush=True)
    os._exit(0)
"""

RECORDER = """
import sys, threading

made = []

def recorded(make):
    def recording():
        lock, frame = make(), sys._getframe(1)
        while frame.f_globals.get("__name__") == "threading":
            frame = frame.f_back
        if frame.f_globals.get("__name__", "").startswith("delegraph."):
            made.append(lock)
        return lock
    return recording

threading.Lock, threading.RLock = recorded(threading.Lock), recorded(threading.RLock)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_no_lock_of_the_parent_stops_a_child(tmp_path: Path) -> None:
    """Whatever locks delegraph makes, a thread of the parent holds them all when the process forks."""
    (tmp_path / "delegraph_locks.py").write_text(RECORDER)
    example = ROOT / "tests" / "delegates" / "example_delegate.py"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", EVERY_LOCK, str(example)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    assert done.stdout == "True status 0\n", done.stderr
