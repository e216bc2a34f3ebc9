"""Whole models as one segment each: the reference's bits (floats within 1e-5), from many threads, run after run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from benchmarks.cpu_models import main_segment
from tests.delegates.agreement import load, run
from tests.support import require, shared_path

from delegraph.core.abi.values import GraphView
from delegraph.core.graph.graph import Array
from delegraph.delegates.cpu import CpuDelegate, isa
from delegraph.delegates.reference import ReferenceDelegate

pytest.importorskip("llvmlite")

MODELS = (
    "mobilenet_v1_0.25_224_float",
    "mobilenet_v1_0.25_128_quant",
    "mobilenet_v2_1.0_224_quant",
    "mlperf_vww_96_int8",
    "mlperf_kws_int8",
    "mlperf_resnet8_int8",
    "person_detect",
)


def _path(name: str) -> Path:
    require("shared")
    return shared_path() / "models" / "real" / f"{name}.tflite"


def _inputs(path: Path, seed: int) -> list[Array]:
    segment, rng = main_segment(path), np.random.default_rng(seed)
    found = []
    for spec in (segment.specs[i] for i in segment.inputs):
        if spec.dtype.is_float:
            found.append(rng.uniform(-1, 1, spec.shape).astype(np.float32))
        else:
            info = np.iinfo(spec.dtype.numpy)
            found.append(rng.integers(info.min, info.max, spec.shape, spec.dtype.numpy, endpoint=True))
    return found


@pytest.mark.parametrize("name", MODELS)
def test_gives_the_reference_s_results(name: str) -> None:
    path = _path(name)
    segment, device = main_segment(path), CpuDelegate().open("cpu", {})
    assert [s.reason for s in device.supports(GraphView(segment.graph, segment.nodes)) if not s.runs] == []
    inputs = _inputs(path, 0)
    expected = run(ReferenceDelegate().open("reference", {}), segment, inputs)
    for ours, theirs in zip(run(device, segment, inputs), expected, strict=True):
        if theirs.dtype == np.float32:
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
        else:
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("target", [t.name for t in isa.host_targets()[1:]])
def test_lower_targets_give_the_same_integers(target: str) -> None:
    path = _path("mlperf_vww_96_int8")
    segment, inputs = main_segment(path), _inputs(path, 1)
    best, lower = (run(CpuDelegate().open("cpu", options), segment, inputs) for options in ({}, {"isa": target}))
    np.testing.assert_array_equal(best[0], lower[0])


def test_many_threads_share_a_program() -> None:
    path = _path("mobilenet_v1_0.25_224_float")
    segment = main_segment(path)
    loaded = load(CpuDelegate().open("cpu", {}), segment)
    data = [_inputs(path, seed) for seed in range(4)]
    expected = [loaded.run_fresh(d)[0] for d in data]

    def call(k: int) -> bool:
        return bool((loaded.run_fresh(data[k % 4])[0] == expected[k % 4]).all())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(call, range(40)))
