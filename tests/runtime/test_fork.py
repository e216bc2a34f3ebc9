"""After a fork nothing of the parent's device side is used: the child opens its devices again, or falls back."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tests.support import require, shared_path

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
