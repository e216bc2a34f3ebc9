"""Signatures, and whole programs."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
from tests.interpreter.scripts.common import F, counted, describe, make, ready

# --- signatures ------------------------------------------------------------------------------------------------------


def runners(m: Any, models: Any, t: Any) -> None:
    i = make(m, models.made("signatures"))
    describe(i, t)
    t(i.get_signature_runner)
    t(i.get_signature_runner, "nope")
    t(i.get_signature_runner, "")
    t(i.get_signature_runner, signature_key="a_product")
    both, product = i.get_signature_runner("z_both"), i.get_signature_runner("a_product")
    for runner in (both, product):
        t(runner.get_input_details)
        t(runner.get_output_details)
    x, y = counted((2,)), np.array([5, 7], F)
    t(lambda: both(p=x, q=y))
    t(lambda: both(q=x, p=y))
    t(both)
    t(lambda: both(p=x))
    t(lambda: both(p=x, q=y, r=x))
    t(lambda: both(p=x, nope=y))
    t.kind(both, x, y)
    t(lambda: both(p=x, q=[1.0, 2.0]))
    t(lambda: both(p=x, q=y.astype(np.float64)))
    t(lambda: both(p=x, q=F(3)))
    t.kind(lambda: both(p=x, q=counted((3,))))
    t(lambda: both(p=x, q=counted((1,))))
    t(lambda: product(u=counted((1, 2)), v=counted((3, 2))))
    t(product.get_input_details)
    t(lambda: product(u=counted((2, 2)), v=counted((2, 2))))
    t(product.get_output_details)
    t(i.get_input_details)
    t(i.get_tensor_details, 1)
    t(m.SignatureRunner)
    t(m.SignatureRunner, i)
    t(m.SignatureRunner, interpreter=i, signature_key="nope")
    t(m.SignatureRunner(i, "z_both"), p=x, q=y)


def runner_shares_state(m: Any, models: Any, t: Any) -> None:
    i = make(m, models.made("unknown_sizes"))
    t(lambda: i.get_signature_runner()(x=counted((2, 3))))
    t(i.get_input_details)
    t(i.get_output_details)
    t(i.get_tensor, 1)
    t(i.get_tensor, 0)
    t(i.set_tensor, 0, counted((2, 3)) + F(1))
    t(i.invoke)
    t(i.get_tensor, 1)
    t(i.allocate_tensors)
    i.resize_tensor_input(0, [1, 3])
    t(lambda: i.get_signature_runner(None)(x=counted((1, 3))))
    t(i.get_tensor, 1)


def no_signatures(m: Any, models: Any, t: Any) -> None:
    i = make(m, models.made("plain"))
    t(i.get_signature_list)
    t(i.get_signature_runner)
    t(i.get_signature_runner, "serving_default")


def shared_models_by_signature(m: Any, models: Any, t: Any) -> None:
    for name in ("multi_signatures.bin", "multi_signature_def.bin", "reverse_signature_model.tflite"):
        i = make(m, models.real(f"testdata/litert/{name}"))
        for key in i.get_signature_list():
            runner = i.get_signature_runner(key)
            given = {n: counted(d["shape"]) for n, d in runner.get_input_details().items()}
            t(runner, **given)
    i = make(m, models.real("testdata/mediapipe/test_two_signature_keys_model.tflite"))
    for key in i.get_signature_list():
        runner = i.get_signature_runner(key)
        t(runner, **{n: counted(d["shape"]) for n, d in runner.get_input_details().items()})


# --- whole programs --------------------------------------------------------------------------------------------------


def a_classifier(m: Any, models: Any, t: Any) -> None:
    """The label_image script that everybody starts from."""
    i = m.Interpreter(model_path=models.real("mobilenet_v1_0.25_128_quant.tflite"), num_threads=2)
    i.allocate_tensors()
    input_details, output_details = i.get_input_details(), i.get_output_details()
    t.note(input_details)
    height, width = (int(n) for n in input_details[0]["shape"][1:3])
    t.note((height, width, input_details[0]["dtype"] == np.float32))
    image = np.random.default_rng(0).integers(0, 256, (1, height, width, 3)).astype(np.uint8)
    i.set_tensor(input_details[0]["index"], image)
    i.invoke()
    results = np.squeeze(i.get_tensor(output_details[0]["index"]))
    t.note(results.argsort()[-5:][::-1].tolist())
    t.note(results)


def many_outputs(m: Any, models: Any, t: Any) -> None:
    i = ready(m, models.real("testdata/coral/split_concat.tflite"))
    for d in i.get_input_details():
        i.set_tensor(d["index"], (counted(d["shape"], np.int64) % 100).astype(d["dtype"]))
    t(i.invoke)
    for d in i.get_output_details():
        t(i.get_tensor, d["index"])


def outputs_of_all_kinds(m: Any, models: Any, t: Any) -> None:
    """A constant and an input as outputs."""
    i = make(m, models.real("testdata/litert/constant_output_tensor.tflite"))
    for d in i.get_output_details():
        t(i.get_tensor, d["index"])
    i.allocate_tensors()
    for d in i.get_input_details():
        i.set_tensor(d["index"], counted(d["shape"]))
    i.invoke()
    for d in i.get_output_details():
        t(i.get_tensor, d["index"])
        t.note(i.tensor(d["index"])().tolist())
    i = ready(m, models.real("testdata/mediapipe/3in3out_model_swaps_input_2_and_0.tflite"))
    for d in i.get_input_details():
        i.set_tensor(d["index"], counted(d["shape"]) + F(d["index"]))
    t(i.invoke)
    for d in i.get_output_details():
        t(i.get_tensor, d["index"])


def shapes_of_intermediates(m: Any, models: Any, t: Any) -> None:
    """Every tensor's shape before and, all kept, after a run; LiteRT adds temporaries behind the file's tensors."""
    for path in (
        models.made("data_dependent"),
        models.made("plain"),
        models.real("testdata/litert/broadcast_to.bin"),
        models.real("testdata/litert/gather_nd.bin"),
        models.real("testdata/litert/dynamic_shapes.bin"),
        models.real("testdata/tflite_support/dilated_conv.tflite"),
    ):
        t.note(path.rpartition("/")[2])
        i = make(m, path, experimental_preserve_all_tensors=True)
        count = len(i.get_tensor_details())
        i.allocate_tensors()
        if "dynamic_shapes" not in path and "dilated_conv" not in path:  # there delegraph knows more than LiteRT
            t.note([d["shape"].tolist() for d in i.get_tensor_details()[:count]])
        for d in i.get_input_details():
            i.set_tensor(d["index"], np.zeros(d["shape"], d["dtype"]))
        t(i.invoke)
        t.note([d["shape"].tolist() for d in i.get_tensor_details()[:count]])


def nothing_to_run(m: Any, models: Any, t: Any) -> None:
    i = make(m, models.real("testdata/mediapipe/3in3out_model_swaps_input_2_and_0.tflite"))
    t(i.get_input_details)
    t(i.get_output_details)


def names(m: Any, models: Any, t: Any) -> None:
    i = make(m, models.made("plain"))
    public = {name for name in dir(i) if not name.startswith("_")} - {"placement"}
    t.note(sorted(public))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        t(ready, m, os.fspath(models.made("plain")))
