"""A second process compiles nothing and does not import LLVM; a damaged store costs time, not answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import require, shared_path

SCRIPT = """
import hashlib, json, sys
import numpy as np
import delegraph as dg

path, device = sys.argv[1:]
model = dg.compile(path, devices=[device])
info = model.inputs[0]
shape = [max(1, n) for n in info.shape]
x = (np.arange(np.prod(shape)) % 97).astype(info.dtype.numpy).reshape(shape)
y = model(x)
print(json.dumps({
    "compilations": model.receipt().compilations,
    "devices": sorted(model.receipt().devices),
    "events": [event.code for event in model.receipt().events if event.moment != "plan"],
    "llvm": "llvmlite" in sys.modules,
    "output": hashlib.sha256(y.tobytes()).hexdigest(),
}))
"""


def _run(store: Path, device: str, name: str = "mlperf_resnet8_int8") -> dict[str, object]:
    path = shared_path() / "models" / "real" / f"{name}.tflite"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path), device],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "DELEGRAPH_CACHE_DIR": str(store)},
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("device", ["cpu", "opencl:0", "nnapi:sample-all"])
def test_the_second_process_compiles_nothing(tmp_path: Path, device: str) -> None:
    require("shared")
    if device.startswith("opencl"):
        require("opencl")
    cold = _run(tmp_path / "store", device)
    warm = _run(tmp_path / "store", device)
    assert device in cold["devices"], cold  # type: ignore[operator]
    assert cold["compilations"] != 0
    assert (warm["compilations"], warm["llvm"], warm["events"]) == (0, False, [])
    assert warm["output"] == cold["output"]


@pytest.mark.parametrize("device", ["cpu", "opencl:0"])
def test_damaged_and_missing_entries_are_misses(tmp_path: Path, device: str) -> None:
    require("shared")
    if device.startswith("opencl"):
        require("opencl")
    store = tmp_path / "store"
    cold = _run(store, device)
    files = sorted(path for path in store.rglob("*") if path.is_file())
    assert files
    for k, path in enumerate(files):
        data = bytearray(path.read_bytes())
        if k % 3 == 0:
            path.unlink()
        elif k % 3 == 1:
            path.write_bytes(data[: len(data) // 2])
        else:
            data[len(data) * 3 // 4] ^= 0x55
            path.write_bytes(data)
    again = _run(store, device)
    assert again["output"] == cold["output"]
    assert again["events"] == []


def test_without_a_store_it_works_too(tmp_path: Path) -> None:
    require("shared")
    assert _run(Path("off"), "cpu")["output"] == _run(tmp_path / "store", "cpu")["output"]
