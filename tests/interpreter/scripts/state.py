"""State, control flow, shapes from data, and intermediate tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
from tests.interpreter.scripts.common import F, counted, make, ready

# --- state -----------------------------------------------------------------------------------------------------------


def variable_tensors(m: Any, models: Any, t: Any) -> None:
    i = make(m, models.made("filter_state"))
    t.kind(i.reset_all_variables)
    t(i.get_tensor, 3)
    i.allocate_tensors()

    def feed(*values: float) -> None:
        for value in values:
            i.set_tensor(0, np.array([[value]], F))
            i.invoke()
            t(i.get_tensor, 4)
            t(i.get_tensor, 3)

    t(i.get_tensor, 3)
    feed(1, 2, 3)
    t(i.allocate_tensors)  # changes nothing
    feed(4)
    t(i.reset_all_variables)
    t(i.get_tensor, 3)
    feed(5, 6)
    i.tensor(3)()[:] = 10
    feed(1)
    t(i.set_tensor, 3, np.array([[7, 8, 9]], F))
    t(i.get_tensor, 3)
    feed(0)
    t.note(i.tensor(3)())
    t(i.resize_tensor_input, 0, [1, 1])
    feed(1)


def a_variable_that_ops_only_read(m: Any, models: Any, t: Any) -> None:
    i = make(m, models.real("testdata/litert/sub.bin"))
    t(i.get_tensor_details)
    (x,), (y,) = i.get_input_details(), i.get_output_details()
    t.kind(i.reset_all_variables)
    i.allocate_tensors()
    before = {d["index"] for d in (x, y)}
    others = [d for d in i.get_tensor_details() if d["index"] not in before]
    i.set_tensor(x["index"], counted(x["shape"], np.int64).astype(x["dtype"]))
    for d in others:
        t(i.get_tensor, d["index"])
        t(i.set_tensor, d["index"], np.ones(d["shape"], d["dtype"]))
        t(i.get_tensor, d["index"])
    for _ in range(2):
        t(i.invoke)
        t(i.get_tensor, y["index"])
    t(i.reset_all_variables)
    t(i.invoke)
    t(i.get_tensor, y["index"])
    for d in others:
        t(i.get_tensor, d["index"])


def lstm_state(m: Any, models: Any, t: Any) -> None:
    i = ready(m, models.real("mnist_lstm_int8.tflite"))
    x = i.get_input_details()[0]
    y = i.get_output_details()[0]["index"]
    rng = np.random.default_rng(0)
    for step in range(4):
        if step == 2:
            i.reset_all_variables()
        i.set_tensor(x["index"], rng.integers(-128, 128, x["shape"]).astype(np.int8))
        i.invoke()
        t(i.get_tensor, y)


def resource_variables(m: Any, models: Any, t: Any) -> None:
    i = ready(m, models.real("testdata/litert/call_once_mul.bin"))
    x, y = i.get_input_details()[0], i.get_output_details()[0]["index"]
    for step in range(3):
        t(i.set_tensor, x["index"], counted(x["shape"]) + F(step))
        t(i.invoke)
        t(i.get_tensor, y)
    t(i.reset_all_variables)
    t(i.invoke)
    t(i.get_tensor, y)
    t(i.allocate_tensors)
    t(i.invoke)
    t(i.get_tensor, y)


def handles_have_the_shape_in_the_file(m: Any, models: Any, t: Any) -> None:
    i = make(m, models.real("testdata/litert/call_once_mul.bin"))
    t(i.allocate_tensors)
    for subgraph in range(i.num_subgraphs()):
        for details in i.get_tensor_details(subgraph):
            if details["dtype"] is np.object_:
                t.note(details)


def streaming_resources(m: Any, models: Any, t: Any) -> None:
    i = ready(m, models.real("microwakeword_okay_nabu.tflite"))
    x, y = i.get_input_details()[0], i.get_output_details()[0]["index"]
    rng = np.random.default_rng(1)
    for step in range(6):
        if step == 3:
            i.reset_all_variables()
        i.set_tensor(x["index"], rng.integers(-128, 128, x["shape"]).astype(np.int8))
        i.invoke()
        t(i.get_tensor, y)


def training(m: Any, models: Any, t: Any) -> None:
    i = make(m, models.real("training_linear_regression.tflite"))
    keys = list(i.get_signature_list())
    t.note(keys)
    runners = {key: i.get_signature_runner(key) for key in keys}
    for runner in runners.values():
        t(runner.get_input_details)
        t(runner.get_output_details)

    def given(key: str) -> dict[str, Any]:
        return {
            name: np.full(np.maximum(d["shape"], 1), 0.5, d["dtype"])
            for name, d in runners[key].get_input_details().items()
        }

    for key in [*keys, *keys, *reversed(keys)]:
        try:
            found = runners[key](**given(key))
            t.note({name: np.round(value, 4).tolist() for name, value in found.items()})
        except RuntimeError as exc:
            t.note(type(exc).__name__)


# --- control flow and shapes from data -------------------------------------------------------------------------------


def loops(m: Any, models: Any, t: Any) -> None:
    for name in ("multi_subgraphs_while.bin", "nested_while.bin"):
        i = ready(m, models.real(f"testdata/litert/{name}"))
        for step in range(3):
            for d in i.get_input_details():
                i.set_tensor(d["index"], np.full(d["shape"], step + 1, d["dtype"]))
            t(i.invoke)
            for d in i.get_output_details():
                t(i.get_tensor, d["index"])
        t(i.get_output_details)


def data_dependent_shapes(m: Any, models: Any, t: Any) -> None:
    i = make(m, models.made("data_dependent"))
    t(i.get_output_details)
    t(i.allocate_tensors)
    t(i.get_output_details)
    t(i.invoke)
    for values in ([1, 2, 1, 2], [3, 3, 3, 3], [1, 2, 3, 4], [1, 2, 1, 2]):
        i.set_tensor(0, np.array(values, F))
        t(i.invoke)
        t(i.get_tensor, 3)
        t(i.get_tensor, 2)
        t(i.get_output_details)
    i.resize_tensor_input(0, [6])
    i.allocate_tensors()
    i.set_tensor(0, np.array([5, 4, 5, 4, 5, 0], F))
    t(i.invoke)
    t(i.get_tensor, 3)
    t(i.get_output_details)


def shapes_from_inputs(m: Any, models: Any, t: Any) -> None:
    i = ready(m, models.real("testdata/litert/simple_topk_op_runtime_k.tflite"))
    t(i.get_output_details)
    for d in i.get_output_details():
        t(i.get_tensor, d["index"])
    for k in (3, 5, 1):
        for d in i.get_input_details():
            value = np.array(k, np.int32) if d["dtype"] is np.int32 else counted(d["shape"])
            i.set_tensor(d["index"], value)
        t(i.invoke)
        for d in i.get_output_details():
            t(i.get_tensor, d["index"])
        t(i.get_output_details)


def where(m: Any, models: Any, t: Any) -> None:
    i = ready(m, models.real("testdata/litert/where.bin"))
    d = i.get_input_details()[0]
    y = i.get_output_details()[0]["index"]
    for seed in range(3):
        i.set_tensor(d["index"], np.random.default_rng(seed).integers(0, 2, d["shape"]).astype(np.bool_))
        t(i.invoke)
        t(i.get_tensor, y)
    t(i.get_output_details)


def a_failing_run(m: Any, models: Any, t: Any) -> None:
    i = ready(m, models.made("gather"))
    i.set_tensor(1, np.array([1], np.int32))
    t(i.invoke)
    t(i.get_tensor, 2)
    i.set_tensor(1, np.array([3], np.int32))
    t.kind(i.invoke)
    i.set_tensor(1, np.array([2], np.int32))
    t(i.invoke)
    t(i.get_tensor, 2)


# --- intermediates ---------------------------------------------------------------------------------------------------


def all_tensors(m: Any, models: Any, t: Any) -> None:
    for path in (models.made("plain"), models.made("quantized_chain")):
        i = make(m, path, experimental_preserve_all_tensors=True)
        t(i.get_tensor, 2)
        i.allocate_tensors()
        d = i.get_input_details()[0]
        for seed in range(2):
            rng = np.random.default_rng(seed)
            i.set_tensor(d["index"], rng.integers(-9, 9, d["shape"]).astype(d["dtype"]))
            i.invoke()
            for each in i.get_tensor_details():
                t(i.get_tensor, each["index"])
        t.note(i.tensor(2)())


def all_tensors_of_models(m: Any, models: Any, t: Any) -> None:
    for name in ("micro_speech_quantized.tflite", "testdata/tflm/hello_world_int8.tflite", "mlperf_kws_int8.tflite"):
        i = ready(m, models.real(name), experimental_preserve_all_tensors=True)
        count = len(make(m, models.real(name)).get_tensor_details())
        d = i.get_input_details()[0]
        i.set_tensor(d["index"], np.random.default_rng(3).integers(-128, 128, d["shape"]).astype(d["dtype"]))
        i.invoke()
        for index in range(count):
            t(i.get_tensor, index)


def all_tensors_of_signatures(m: Any, models: Any, t: Any) -> None:
    i = make(m, models.made("signatures"), experimental_preserve_all_tensors=True)
    i.get_signature_runner("a_product")(u=counted((2, 2)), v=counted((2, 2)))
    for index in range(3):
        t(i.get_tensor, index, 1)
