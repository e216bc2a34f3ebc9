"""The oracle answers as recorded, and outlives whatever its child does."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support import require, shared_path

from delegraph.core.errors import InvalidArgument
from delegraph.testing import (
    Job,
    Oracle,
    OracleCrashed,
    OracleRefused,
    OracleResult,
    OracleTimeout,
    outputs_digest,
    recipe_inputs,
)

REAL = shared_path() / "models" / "real"
ADD = REAL / "testdata/litert/multi_signatures.bin"


@pytest.fixture(scope="module", autouse=True)
def needs() -> None:
    require("litert")
    require("shared")


@cache
def index() -> dict[str, dict[str, Any]]:
    models = json.loads((REAL / "index.json").read_text())["models"]
    return {each["file"]: each for each in models}


def ones(*shape: int) -> np.ndarray[Any, Any]:
    return np.ones(shape, np.float32)


class TestAnswers:
    @pytest.mark.parametrize(
        "name",
        [
            "mobilenet_v1_0.25_128_quant.tflite",  # uint8
            "mlperf_resnet8_int8.tflite",
            "ds_cnn_small_int16x8.tflite",
            "mlperf_kws_hybrid.tflite",
            "keras_lstm_mnist_ptq.tflite",  # variables
            "microwakeword_okay_nabu.tflite",  # resources, CALL_ONCE
            "movie_review_average_word_vec.tflite",  # int32
            pytest.param("testdata/litert/conv3d_huge_im2col.bin", marks=pytest.mark.slow),  # 345 MB each way
        ],
    )
    def test_recipe_reproduces_the_recorded_digest(self, oracle: Oracle, name: str) -> None:
        details = oracle.describe(REAL / name)
        result = oracle.run(REAL / name, recipe_inputs(details.inputs))
        assert outputs_digest(result.outputs) == index()[name]["litert_random_run"]["sha256"]

    def test_bytes_and_path_are_one_model(self, oracle: Oracle) -> None:
        path = REAL / "mlperf_resnet8_int8.tflite"
        inputs = recipe_inputs(oracle.describe(path).inputs)
        from_path, from_bytes = oracle.run(path, inputs), oracle.run(path.read_bytes(), inputs)
        np.testing.assert_array_equal(from_path.outputs[0], from_bytes.outputs[0])

    def test_signatures_go_by_name(self, oracle: Oracle) -> None:
        signatures = oracle.describe(ADD).signatures
        assert set(signatures) == {"add", "sub"}
        (name,) = signatures["sub"].inputs
        result = oracle.run(ADD, {name: ones(3)}, signature="sub")
        assert list(result.named) == list(signatures["sub"].outputs)
        np.testing.assert_array_equal(result.outputs[0], ones(3) - 3)

    def test_strings_without_dimensions(self, oracle: Oracle) -> None:
        text = np.array(b"a word", dtype=object)
        result = oracle.run(REAL / "testdata/litert/string_scalar.bin", [text])
        assert result.outputs[0].tolist() == [b"a word"]

    def test_resize_is_a_choice(self, oracle: Oracle) -> None:
        path = REAL / "mlperf_resnet8_float.tflite"
        assert oracle.run(path, [ones(2, 32, 32, 3)]).outputs[0].shape == (2, 10)
        with pytest.raises(OracleRefused, match="Dimension mismatch") as caught:
            oracle.run(path, [ones(2, 32, 32, 3)], resize=False)
        assert caught.value.stage == "input"

    def test_keep_all_reads_what_lies_between(self, oracle: Oracle) -> None:
        path = REAL / "mlperf_resnet8_int8.tflite"
        details = oracle.describe(path)
        result = oracle.run(path, recipe_inputs(details.inputs), keep_all=True)
        for op in details.ops:
            for output in op.outputs:
                assert result.tensors[output].shape == details.tensors[output].shape
        last = result.tensors[details.outputs[0].index]
        np.testing.assert_array_equal(last, result.outputs[0])

    @pytest.mark.parametrize("name", ["mnist_lstm_int8.tflite", "microwakeword_okay_nabu.tflite"])
    def test_keep_all_leaves_out_what_would_crash(self, oracle: Oracle, name: str) -> None:
        """An LSTM's intermediates have no shape; resources have no bytes."""
        inputs = recipe_inputs(oracle.describe(REAL / name).inputs)
        result = oracle.run(REAL / name, inputs, keep_all=True)
        assert outputs_digest(result.outputs) == index()[name]["litert_random_run"]["sha256"]

    def test_resolvers_are_different_kernels(self, oracle: Oracle) -> None:
        path = REAL / "mobilenet_v1_0.25_224_float.tflite"
        inputs = recipe_inputs(oracle.describe(path).inputs)
        digests = {
            outputs_digest(oracle.run(path, inputs, resolver=resolver).outputs)
            for resolver in ("reference", "builtin", "default")
        }
        assert len(digests) == 3

    def test_state_carries_over_within_a_sequence(self, oracle: Oracle) -> None:
        path = REAL / "mnist_lstm_int8.tflite"
        inputs = recipe_inputs(oracle.describe(path).inputs)
        first, second = oracle.run_sequence(path, [inputs, inputs])
        twice = oracle.run(path, inputs, invocations=2)
        assert outputs_digest(first.outputs) == outputs_digest(oracle.run(path, inputs).outputs)
        assert outputs_digest(first.outputs) != outputs_digest(second.outputs)
        assert outputs_digest(twice.outputs) == outputs_digest(second.outputs)

    def test_a_sequence_may_change_its_signature(self, oracle: Oracle) -> None:
        path = REAL / "training_linear_regression.tflite"
        signatures = oracle.describe(path).signatures
        values = recipe_inputs(list(signatures["set_weights"].inputs.values()))
        weights = dict(zip(signatures["set_weights"].inputs, values, strict=True))
        getting = dict.fromkeys(signatures["get_weights"].inputs, ones(1))
        _, found = oracle.run_sequence(path, [weights, getting], ["set_weights", "get_weights"])
        for array in values:
            assert any(np.array_equal(array, output) for output in found.outputs)


class TestRefusals:
    def test_at_load(self, oracle: Oracle) -> None:
        with pytest.raises(OracleRefused, match="quantized_dimension must be in range") as caught:
            oracle.describe(REAL / "person_detect.tflite")
        assert (caught.value.stage, caught.value.kind) == ("load", "ValueError")

    def test_at_allocate(self, oracle: Oracle) -> None:
        with pytest.raises(OracleRefused, match="unresolved custom op: ethos-u") as caught:
            path = REAL / "person_detect_vela.tflite"
            oracle.run(path, recipe_inputs(oracle.describe(path).inputs))
        assert caught.value.stage == "allocate"

    def test_wrong_dtype_is_not_cast(self, oracle: Oracle) -> None:
        with pytest.raises(OracleRefused, match="FLOAT64") as caught:
            oracle.run(REAL / "mlperf_resnet8_float.tflite", [ones(1, 32, 32, 3).astype(np.float64)])
        assert caught.value.stage == "input"

    def test_wrong_number_of_inputs(self, oracle: Oracle) -> None:
        with pytest.raises(OracleRefused, match="expected 1 inputs, found 0"):
            oracle.run(REAL / "mlperf_resnet8_float.tflite", [])

    def test_a_refusal_keeps_the_child(self, oracle: Oracle) -> None:
        oracle.describe(ADD)
        before = oracle.pid
        with pytest.raises(OracleRefused):
            oracle.describe(b"no model")
        assert oracle.pid == before

    def test_misuse_is_told_before_anything_runs(self) -> None:
        with pytest.raises(InvalidArgument, match="resolver: expected one of reference, builtin, default"):
            Job(b"", [], resolver="fast")  # type: ignore[arg-type]
        with Oracle() as oracle:
            with pytest.raises(InvalidArgument, match="expected a mapping with a signature"):
                oracle.run(ADD, [ones(1)], signature="add")
            assert oracle.pid is None


class TestDeaths:
    def test_a_child_killed_between_requests_is_replaced(self, oracle: Oracle) -> None:
        oracle.describe(ADD)
        before = oracle.pid
        assert before is not None
        os.kill(before, signal.SIGKILL)
        assert set(oracle.describe(ADD).signatures) == {"add", "sub"}
        assert oracle.pid != before

    def test_a_model_that_crashes_litert(self, oracle: Oracle) -> None:
        with pytest.raises(OracleCrashed) as caught:
            oracle.run(REAL / "testdata/litert/blockwise_quantized.tflite", [ones(1)])
        assert (caught.value.signal, caught.value.stage) == (signal.SIGABRT, "allocate")
        assert oracle.describe(ADD)

    def test_the_last_words_are_kept(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        # in place of Python: a model that makes LiteRT speak before it dies does so on most runs, not on all
        script = tmp_path / "speaks_and_dies"
        script.write_text("#!/bin/sh\necho first words >&2\necho last words >&2\nkill -ABRT $$\n")
        script.chmod(0o700)
        with Oracle() as oracle:
            monkeypatch.setattr(sys, "executable", str(script))
            with pytest.raises(OracleCrashed, match="start: .* SIGABRT; it said last: last words$") as caught:
                oracle.describe(ADD)
        assert caught.value.log == "first words\nlast words"

    def test_a_child_that_does_not_start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with Oracle() as oracle:
            monkeypatch.setattr(sys, "executable", "/bin/false")
            with pytest.raises(OracleCrashed, match="start: the process ended with exit code 1"):
                oracle.describe(ADD)

    def test_timeout(self, oracle: Oracle) -> None:
        path = REAL / "mlperf_resnet8_float.tflite"
        with pytest.raises(OracleTimeout, match="no answer within 0.5 s") as caught:
            oracle.run(path, [ones(1, 32, 32, 3)], invocations=10**9, timeout_s=0.5)
        assert caught.value.stage in ("load", "allocate", "input", "invoke")  # how far it comes depends on the machine
        assert oracle.run(path, [ones(1, 32, 32, 3)]).outputs[0].shape == (1, 10)

    def test_an_interrupted_request_does_not_answer_the_next(
        self, oracle: Oracle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        oracle.describe(ADD)
        with monkeypatch.context() as patch:
            patch.setattr(pickle, "load", _interrupt)
            with pytest.raises(KeyboardInterrupt):
                oracle.describe(REAL / "mlperf_resnet8_float.tflite")
        assert set(oracle.describe(ADD).signatures) == {"add", "sub"}

    def test_a_batch_goes_on_after_a_crash(self, oracle: Oracle) -> None:
        path = REAL / "mlperf_resnet8_float.tflite"
        good = Job(path.read_bytes(), [ones(1, 32, 32, 3)])
        crash = Job(REAL / "testdata/litert/blockwise_quantized.tflite", [ones(1)])
        late = Job(path, [ones(1, 32, 32, 3)], invocations=10**9, timeout_s=0.2)
        answers = list(oracle.run_many([good, crash, good, Job(b"no model", []), late, good]))
        assert [type(each) for each in answers] == [
            OracleResult,
            OracleCrashed,
            OracleResult,
            OracleRefused,
            OracleTimeout,
            OracleResult,
        ]

    def test_closing_leaves_no_process(self) -> None:
        with Oracle() as oracle:
            oracle.describe(ADD)
            pid = oracle.pid
        assert pid is not None and oracle.pid is None
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def _interrupt(_: object) -> None:
    raise KeyboardInterrupt


def test_litert_is_never_imported_here() -> None:
    code = """
import sys
from delegraph.testing import Oracle, available
assert available()
with Oracle() as oracle:
    oracle.describe(sys.argv[1])
assert not any(name.startswith("ai_edge_litert") for name in sys.modules)
"""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code, str(ADD)], check=True, env=env)


def test_recipe_is_repeatable(oracle: Oracle) -> None:
    details = oracle.describe(REAL / "mlperf_resnet8_int8.tflite").inputs
    np.testing.assert_array_equal(recipe_inputs(details)[0], recipe_inputs(details)[0])
    assert not np.array_equal(recipe_inputs(details)[0], recipe_inputs(details, seed=1)[0])


def test_paths_may_be_relative(oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle.describe(ADD)  # the child keeps the folder that it was started in
    monkeypatch.chdir(ADD.parent)
    assert oracle.describe(Path(ADD.name)).signatures
