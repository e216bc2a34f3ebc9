"""Every fault on real models and real delegates: the answer stays the reference's, or the typed error comes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
from tests.support import require, shared_path

import delegraph as dg
from delegraph import registry
from delegraph.core.abi.values import DelegateError, ErrorCode
from delegraph.core.graph.graph import Array
from delegraph.testing import faults

MODELS = (
    "tvm_mnist_int8_io",
    "mlperf_kws_int8",
    "mlperf_resnet8_int8",
    "gesture_embedder",
    "face_detection_short_range",
    "microwakeword_okay_nabu",
    "planestrike_policy",
)
DEVICES = ("cpu", "opencl:0", "nnapi:sample-all")
FAULTS = (
    faults.FailCompile(),
    faults.FailRun(),
    faults.FailRun(at=1, code=ErrorCode.OUT_OF_MEMORY),
    faults.FailRun(raises=lambda: ValueError("not a DelegateError")),
    faults.OutOfMemory(),
    faults.LoseDevice(),
    faults.Hang(seconds=0.5),
)


def _path(name: str) -> str:
    require("shared")
    return str(shared_path() / "models" / "real" / f"{name}.tflite")


def _inputs(model: dg.CompiledModel, seed: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    made = []
    for info in model.inputs:
        shape = [max(1, n) for n in info.shape]
        if info.dtype.numpy.kind == "f":
            made.append(rng.uniform(-1, 1, shape).astype(info.dtype.numpy))
        else:
            limits = np.iinfo(info.dtype.numpy)
            made.append(rng.integers(max(limits.min, -128), min(limits.max, 127), shape).astype(info.dtype.numpy))
    return made


def _run(model: dg.CompiledModel, runs: int = 3) -> list[list[Array]]:
    session = model.session()
    outputs = [info.index for info in model.outputs]
    found = [session.run(0, _inputs(model, seed)) for seed in range(runs)]
    return [[values[i] for i in outputs] for values in found]


@cache
def _expected(name: str) -> list[list[Array]]:
    return _run(dg.compile(_path(name), devices="reference"))


def _check(found: list[list[Array]], name: str) -> None:
    for ours, wanted in zip(found, _expected(name), strict=True):
        for y, z in zip(wanted, ours, strict=True):
            if y.dtype.kind == "f":
                np.testing.assert_allclose(z, y, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(y).max(initial=0))))
            else:
                np.testing.assert_array_equal(z, y)


def _usable(device: str) -> None:
    if device.startswith("opencl"):
        require("opencl")
    found = {info.id: info for info in registry.resolve(device)}
    if device not in found or not found[device].available:
        pytest.skip(f"{device} is not available here")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", MODELS)
def test_the_answer_is_the_references(device: str, name: str) -> None:
    _usable(device)
    compiled = dg.compile(_path(name), devices=[device])
    _check(_run(compiled), name)
    assert compiled.receipt().devices.get(device), "the device ran nothing"
    assert [e for e in compiled.receipt().events if e.moment != "plan"] == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f"{type(f).__name__}{f.at}")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", MODELS)
def test_no_fault_changes_the_answer(
    device: str, name: str, fault: faults.Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    _usable(device)
    (info,) = (info for info in registry.resolve(device) if info.id == device)
    if isinstance(fault, faults.Hang) and not info.may_hang:
        pytest.skip(f"{device} is code of our own that is not watched")
    monkeypatch.setenv("DELEGRAPH_CACHE_DIR", "off")
    with faults.inject(device, fault) as state:
        timeout_s = 0.1 if isinstance(fault, faults.Hang) else 60.0
        compiled = dg.compile(_path(name), devices=[device], timeout_s=timeout_s)
        _check(_run(compiled), name)
        if state.struck:
            assert any(event.device == device for event in compiled.receipt().events)


@pytest.mark.parametrize("fault", [faults.FailRun(), faults.LoseDevice()], ids=lambda f: type(f).__name__)
@pytest.mark.parametrize("device", DEVICES)
def test_without_fallback_it_is_the_typed_error(device: str, fault: faults.Fault) -> None:
    _usable(device)
    with faults.inject(device, fault):
        with pytest.raises(DelegateError) as caught:
            pins = {"0-99": device}
            _run(dg.compile(_path("tvm_mnist_int8_io"), devices=[device, "reference"], fallback="error", pins=pins))
        assert caught.value.device == device


def test_a_thousand_runs_on_four_threads_with_faults_at_random_calls() -> None:
    device = "nnapi:sample-all"
    rng = np.random.default_rng(11)
    some: list[faults.Fault] = [faults.FailRun(at=int(n)) for n in rng.integers(0, 600, 15)]
    some += [faults.LoseDevice(at=int(n)) for n in rng.integers(0, 600, 3)]
    with faults.inject(device, *some):
        compiled = dg.compile(_path("tvm_mnist_int8_io"), devices=[device])
        inputs = [_inputs(compiled, seed)[0] for seed in range(8)]
        wanted = [dg.compile(_path("tvm_mnist_int8_io"), devices="reference")(x) for x in inputs]

        def call(k: int) -> bool:
            if k % 25 == 0:
                registry.health.worked(device)  # end the quarantine early: the faults are what is tested here
            return bool((compiled(inputs[k % 8]) == wanted[k % 8]).all())

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(call, range(1000)))
    assert compiled.receipt().runs == 1000
    assert compiled.receipt().events
