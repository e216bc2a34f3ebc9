"""Construction and descriptions: what a model says of itself before it is allocated."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from tests.interpreter.scripts.common import describe, make

# --- construction ----------------------------------------------------------------------------------------------------


def construction_sources(m: Any, models: Any, t: Any) -> None:
    path = models.made("plain")
    content = Path(path).read_bytes()
    for options in (
        {},
        {"model_path": None, "model_content": None},
        {"model_path": "", "model_content": b""},
        {"model_content": b""},
        {"model_path": path, "model_content": content},
    ):
        t(m.Interpreter, **options)
    t(m.Interpreter, path)
    t(m.Interpreter, Path(path))
    t(m.Interpreter, os.fsencode(path))
    t(m.Interpreter, b"/there/is/no/such/file.tflite")
    t(m.Interpreter, model_path=path, model_content=b"")
    t(m.Interpreter, model_content=content)
    t(m.Interpreter, model_content=np.bytes_(content))
    t.roughly(m.Interpreter, model_content=bytearray(content))
    t.roughly(m.Interpreter, model_content=memoryview(content))
    t.roughly(m.Interpreter, model_content="text")
    t(m.Interpreter, 5)


def construction_bad_files(m: Any, models: Any, t: Any) -> None:
    t(m.Interpreter, "/there/is/no/such/file.tflite")
    t(m.Interpreter, models.made("garbage"))
    t(m.Interpreter, models.made("cut"))
    t.kind(m.Interpreter, models.made("empty"))
    t(m.Interpreter, model_content=b"short")
    t(m.Interpreter, model_content=Path(models.made("garbage")).read_bytes())
    t(m.Interpreter, model_content=Path(models.made("cut")).read_bytes())


def construction_arguments(m: Any, models: Any, t: Any) -> None:
    path = models.made("plain")
    for threads in (1, 4, True, None, 0, -1, False, "2", 2.0, np.int32(2)):
        t(m.Interpreter, path, num_threads=threads)
    for resolver in ("AUTO", "BUILTIN", "BUILTIN_REF", "BUILTIN_WITHOUT_DEFAULT_DELEGATES"):
        t(m.Interpreter, path, experimental_op_resolver_type=m.OpResolverType[resolver])
    for wrong in (1, "AUTO", None):
        t(m.Interpreter, path, experimental_op_resolver_type=wrong)
    t(m.Interpreter, "/no/such/file", num_threads=0)
    t(m.Interpreter, "/no/such/file", experimental_op_resolver_type=9, num_threads=0)
    t(m.Interpreter, path, experimental_delegates=None)
    t(m.Interpreter, path, experimental_delegates=[])
    i = t(
        m.Interpreter,
        model_path=path,
        experimental_preserve_all_tensors=True,
        experimental_disable_delegate_clustering=True,
        experimental_default_delegate_latest_features=False,
        experimental_compress_quantization_zero_points=True,
        experimental_disable_delegate_node_fusion=True,
        experimental_force_delegate_node_profiling=True,
    )
    t.note(i.experimental_compress_quantization_zero_points)
    t.note(m.Interpreter(path).experimental_compress_quantization_zero_points)
    t.kind(setattr, i, "experimental_compress_quantization_zero_points", False)
    t.kind(m.Interpreter, path, nonsense=1)
    t.note([(r.name, r.value) for r in m.OpResolverType])
    t.roughly(m.load_delegate, "/no/such/library.so")
    t.roughly(m.load_delegate, "libnosuchdelegate.so.1", {"option": "x"})


def construction_operators(m: Any, models: Any, t: Any) -> None:
    t.roughly(make, m, models.made("missing_builtin"))
    i = t(make, m, models.made("custom_op"))
    describe(i, t)
    t(i.allocate_tensors)
    t(i.invoke)


# --- descriptions ----------------------------------------------------------------------------------------------------


def details_of_every_kind(m: Any, models: Any, t: Any) -> None:
    i = make(m, models.made("descriptions"))
    describe(i, t)
    i.allocate_tensors()
    t(i.get_input_details)
    t(i.get_output_details)
    i = make(m, models.made("descriptions"), experimental_compress_quantization_zero_points=True)
    t(i.get_tensor_details)


def details_of_shared_models(m: Any, models: Any, t: Any) -> None:
    for name in (
        "testdata/litert/sparse_tensor.bin",
        "testdata/litert/multi_signatures.bin",
        "testdata/litert/nested_while.bin",
        "testdata/litert/call_once_mul.bin",
        "testdata/litert/sub.bin",
        "testdata/litert/2_subgraphs.bin",
        "testdata/litert/string_scalar.bin",
        "testdata/litert/gather_string.tflite",
        "testdata/quantizer/mnist_quantized.tflite",
        "testdata/tflm/hello_world_int8.tflite",
        "testdata/mediapipe/test_two_signature_keys_model.tflite",
        "micro_speech_quantized.tflite",
        "training_linear_regression.tflite",
        "mlperf_kws_int8.tflite",
    ):
        t.note(name)
        i = t(make, m, models.real(name))
        if i is not None:
            describe(i, t)


def details_errors(m: Any, models: Any, t: Any) -> None:
    i = make(m, models.made("plain"))
    t(i.get_tensor_details, 5)
    t(i.get_tensor_details, -1)
    t(i._get_op_details, 1)
    t(i._get_op_details, 99)
    t(i._get_op_details, -1)
    t(i._get_tensor_details, 2, 0)
    t(i._get_tensor_details, 99, 0)
    t(i._get_tensor_details, -1, 0)
    t(i._get_tensor_details, 1.5, subgraph_index=0)
    t.kind(i._get_tensor_details, "x", 0)


def shape_signature_around_a_resize(m: Any, models: Any, t: Any) -> None:
    for name in ("plain", "unknown_sizes"):
        i = make(m, models.made(name))
        t(i.get_input_details)
        i.resize_tensor_input(0, [4, 3])
        t(i.get_input_details)
        t(i.get_output_details)
        i.allocate_tensors()
        t(i.get_input_details)
        t(i.get_output_details)
        t(i.get_tensor_details)
