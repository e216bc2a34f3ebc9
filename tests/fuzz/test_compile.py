"""Damaged models that the reader lets through: compiling and running them gives a result or a DelegraphError."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
from tests.support import require, shared_path
from tools.fuzz_compile import attempt, mutate

import delegraph as dg

MODELS = (
    "tvm_mnist_int8_io.tflite",
    "gesture_embedder.tflite",
    "mlperf_kws_int8.tflite",
    "training_linear_regression.tflite",
    "microwakeword_okay_nabu.tflite",
    "testdata/quantizer/single_strided_slice.tflite",
    "testdata/quantizer/single_max_pool_2d.tflite",
    "testdata/quantizer/single_split.tflite",
    "testdata/quantizer/simple_composite.tflite",
)
SECONDS = float(os.environ.get("DELEGRAPH_FUZZ_SECONDS", "5"))


@pytest.mark.filterwarnings("ignore")
def test_damaged_models_give_results_or_typed_errors() -> None:
    require("shared")
    models = [dg.load(shared_path() / "models" / "real" / name) for name in MODELS]
    start = int(time.time())
    seed, end = start, time.monotonic() + SECONDS
    outcomes: set[str] = set()
    while time.monotonic() < end or (not outcomes >= {"ran", "InvalidModel"} and seed < start + 200):
        rng = np.random.default_rng(seed)
        model = models[int(rng.integers(len(models)))]
        try:
            outcomes.add(attempt(mutate(model, rng), rng))
        except Exception as exc:
            pytest.fail(f"seed {seed}, {model.source}: {type(exc).__name__}: {exc}")
        seed += 1
    assert {"ran", "InvalidModel"} <= outcomes, f"{seed - start} cases from seed {start}: {outcomes}"
