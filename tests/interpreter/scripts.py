"""Scripts that run on LiteRT's Interpreter and on delegraph's, and have to see the same. Imports nothing of delegraph.

Each takes the module (``m.Interpreter``, ...), the models and a transcript ``t``: ``t(function, ...)`` calls and takes
down what comes back, ``t.note(value)`` takes down a value.
"""

from __future__ import annotations

import gc
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

F = np.float32


def make(m: Any, path: str, **options: Any) -> Any:
    return m.Interpreter(model_path=path, **options)


def ready(m: Any, path: str, **options: Any) -> Any:
    interpreter = m.Interpreter(model_path=path, **options)
    interpreter.allocate_tensors()
    return interpreter


def describe(i: Any, t: Any) -> None:
    """All that can be asked of a model before it is allocated."""
    t(i.get_input_details)
    t(i.get_output_details)
    t(i.get_tensor_details)
    t(i._get_ops_details)
    t(i.num_subgraphs)
    t(i.get_signature_list)
    t(i._get_full_signature_list)
    for index in range(1, i.num_subgraphs()):
        t(i.get_tensor_details, index)


def counted(shape: Any, dtype: Any = np.float32) -> Any:
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


# --- construction -------------------------------------------------------------------------------------------------


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


# --- descriptions -------------------------------------------------------------------------------------------------


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


# --- order of calls -----------------------------------------------------------------------------------------------


def order_of_calls(m: Any, models: Any, t: Any) -> None:
    i = make(m, models.made("plain"))
    x, y = i.get_input_details()[0]["index"], i.get_output_details()[0]["index"]
    t(i.invoke)
    t(i.set_tensor, x, counted((2, 3)))
    t(i.get_tensor, x)
    t(i.get_tensor, y)
    t(i.tensor(y))
    t(i.get_tensor, 1)  # a constant
    t(i.reset_all_variables)
    t(i.allocate_tensors)
    t(i.allocate_tensors)
    t(i.set_tensor, x, counted((2, 3)))
    t(i.get_tensor, x)
    t(i.allocate_tensors)
    t(i.get_tensor, x)
    t(i.invoke)
    t(i.get_tensor, y)
    t(i.get_tensor, 2)
    t(i.invoke)
    t(i.get_tensor, x)
    t(i.get_tensor, y)
    t(i.allocate_tensors)
    t(i.get_tensor, y)
    t(i.resize_tensor_input, x, [1, 3])
    t(i.invoke)
    t(i.set_tensor, x, counted((1, 3)))
    t(i.get_tensor, x)
    t(i.get_tensor, y)  # the old result
    t(i.allocate_tensors)
    t(i.set_tensor, x, counted((1, 3)))
    t(i.invoke)
    t(i.get_tensor, y)
    t(i.get_tensor, 2)
    t(i.reset_all_variables)


def constants_before_allocation(m: Any, models: Any, t: Any) -> None:
    i = make(m, models.made("descriptions"))
    names = {d["name"]: d["index"] for d in i.get_tensor_details()}
    for name in (
        "per_tensor", "channels_last", "int4", "uint4", "int2", "sparse", "strings", "constant_with_signature",
        "constant_scalar", "", "float16", "bool", "int64", "complex64", "blockwise", "float8", "float64", "signature",
    ):  # fmt: skip
        t.note(name)
        t(i.get_tensor, names[name])
    for name in ("constant_scalar", "float64", "signature"):
        t(i.tensor(names[name]))
    t.note(i.tensor(names["per_tensor"])().tolist())
    t.note(i.tensor(names["float16"])().dtype)


def indices(m: Any, models: Any, t: Any) -> None:
    i = ready(m, models.made("plain"))
    x = counted((2, 3))
    for index in (9999, -1, 5):
        t(i.get_tensor, index)
        t(i.set_tensor, index, x)
        t(i.tensor(index))
        t.kind(i.resize_tensor_input, index, [2, 3])
    t(i.set_tensor, np.int64(0), x)
    t(i.set_tensor, np.uint8(0), x)
    t(i.get_tensor, np.int32(0))
    t(i.get_tensor, False)
    for index in (0.0, "0", None, [0], 2**40):
        t.roughly(i.get_tensor, index)
        t.roughly(i.set_tensor, index, x)
        t.roughly(i.tensor(index))
        t.roughly(i.resize_tensor_input, index, [2, 3])
    t(i.get_tensor, 0, 1)
    t(i.get_tensor, 0, -1)
    t(i.get_tensor, 0, subgraph_index=0)
    t.kind(i.get_tensor)
    t.kind(i.set_tensor, 0)


# --- values -------------------------------------------------------------------------------------------------------


def values_of_every_layout(m: Any, models: Any, t: Any) -> None:
    i = ready(m, models.made("plain"))
    x = counted((2, 3))
    for value in (
        x,
        np.asfortranarray(x),
        counted((2, 6))[:, ::2],
        counted((2, 3))[::-1, ::-1],
        np.broadcast_to(F(3), (2, 3)),
        np.ma.masked_array(x),
        [[F(1), F(2), F(3)], [F(4), F(5), F(6)]],
        (tuple(x[0]), tuple(x[1])),
    ):
        t(i.set_tensor, 0, value)
        i.invoke()
        t(i.get_tensor, 3)
        t(i.get_tensor, 2)


def values_refused(m: Any, models: Any, t: Any) -> None:
    i = ready(m, models.made("plain"))
    x = counted((2, 3))
    for value in (
        x[0],
        x[None],
        x.T,
        counted((2, 4)),
        x[:1],
        x[:0],
        F(1),
        1.0,
        5,
        True,
        "text",
        None,
        [[1.0, 2.0, 3.0]] * 2,
        [[1, 2, 3]] * 2,
        [[1.0], [2.0, 3.0]],
        np.array(["a", "b"]),
        np.array([b"a"], object),
        np.zeros((2, 3), "datetime64[s]"),
    ):
        t(i.set_tensor, 0, value)
    for dtype in (
        np.float16, np.float64, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64,
        np.bool_, np.complex64, np.complex128, object, "U3", "S3",
    ):  # fmt: skip
        t(i.set_tensor, 0, np.zeros((2, 3), dtype))
    i = ready(m, models.made("quantized_chain"))
    t(i.set_tensor, 0, np.zeros((2, 4), np.uint8))
    t(i.set_tensor, 0, np.zeros((2, 4), np.float32))
    t(i.set_tensor, 0, np.zeros((2, 3), np.float32))


def scalars(m: Any, models: Any, t: Any) -> None:
    i = ready(m, models.made("scalar"))
    t(i.get_input_details)
    for value in (F(2), np.array(3, F), np.array([4], F), 5.0, [6.0]):
        t(i.set_tensor, 0, value)
        t(i.invoke)
        t(i.get_tensor, 1)
    t(i.tensor(1))
    t(i.resize_tensor_input, 0, [2])
    t(i.allocate_tensors)
    t(i.set_tensor, 0, np.array([4, 5], F))
    t(i.invoke)
    t(i.get_tensor, 1)
    t(i.resize_tensor_input, 0, [])
    t(i.allocate_tensors)
    t(i.set_tensor, 0, np.array(7, F))
    t(i.invoke)
    t(i.get_tensor, 1)


def copies_are_the_callers(m: Any, models: Any, t: Any) -> None:
    i = ready(m, models.made("plain"))
    x = counted((2, 3))
    i.set_tensor(0, x)
    x[:] = 100
    i.invoke()
    y = t(i.get_tensor, 3)
    y[:] = -1
    t(i.get_tensor, 3)
    first = i.get_tensor(3)
    i.set_tensor(0, x)
    i.invoke()
    t.note(first)
    details = i.get_input_details()[0]
    details["shape"][0] = 77
    t(i.get_input_details)
    constant = i.get_tensor(1)
    constant[:] = 0
    t(i.get_tensor, 1)


def outputs_can_be_set(m: Any, models: Any, t: Any) -> None:
    i = ready(m, models.made("plain"))
    t(i.set_tensor, 3, counted((2, 3)))
    t(i.get_tensor, 3)
    i.set_tensor(0, counted((2, 3)))
    t(i.invoke)
    t(i.get_tensor, 3)


def four_bit_values(m: Any, models: Any, t: Any) -> None:
    i = make(m, models.made("four_bits"))
    t(i.get_input_details)
    signed = np.array([-8, 7, 0, -1, 3], np.int8)
    t(i.set_tensor, 0, signed)
    i.allocate_tensors()
    t(i.set_tensor, 0, signed)
    t(i.get_tensor, 0)
    t(i.set_tensor, 0, signed[:4])
    t(i.set_tensor, 0, signed.astype(np.uint8))
    t(i.set_tensor, 0, signed.astype(np.int32))
    t(i.set_tensor, 0, np.array([8, 0, 0, 0, 0], np.int8))
    t(i.set_tensor, 0, np.array([0, 0, 0, -9, 0], np.int8))
    t(i.set_tensor, 1, np.array([[15, 0], [9, 1]], np.uint8))
    t(i.get_tensor, 1)
    t(i.set_tensor, 1, np.array([[16, 0], [9, 1]], np.uint8))
    t(i.set_tensor, 1, np.array([15, 0, 9, 2], np.uint8))
    t(i.get_tensor, 1)
    t(i.set_tensor, 1, np.array([15, 0, 9, 2], np.int8))


def strings(m: Any, models: Any, t: Any) -> None:
    i = ready(m, models.made("reshape_strings"))
    t(i.get_input_details)
    for value in (
        np.array([[b"a", b"bc"], [b"", b"longer than the others"]], object),
        np.array([["a", "\u00e9\u4e2d"], ["", "x y"]]),
        np.array([["a", b"mixed"], ["", "x"]], object),
        np.array([[b"a", b"bc"], [b"d\0e", b""]]),
        np.array([["f", "o"], ["r", "t"]], order="F"),
    ):
        t(i.set_tensor, 0, value)
        t(i.get_tensor, 0)
        t(i.invoke)
        t(i.get_tensor, 2)
    t(i.set_tensor, 0, [["a", "b"], ["c", "d"]])
    t(i.set_tensor, 0, np.array(["a", "b"]))
    t(i.set_tensor, 0, np.array([["a", "b", "c"]] * 2))
    t(i.set_tensor, 0, np.array([[1, 2], [3, 4]]))
    t(i.set_tensor, 0, np.array([[1, 2], [3, 4]], object))
    t(i.resize_tensor_input, 0, [4, 1])
    t(i.allocate_tensors)
    t(i.set_tensor, 0, np.array([["q"], ["r"], ["s"], ["t"]]))
    t(i.invoke)
    t(i.get_tensor, 2)


# --- views --------------------------------------------------------------------------------------------------------


def views(m: Any, models: Any, t: Any) -> None:
    i = ready(m, models.made("plain"))
    x, y = i.tensor(0), i.tensor(3)
    t.note(type(x).__name__)
    x().fill(2)
    t.note(x())
    t(i.invoke)
    t.note(y())
    x()[1] = 5
    i.invoke()
    t.note(y())
    t.note(i.get_tensor(0))
    t.note(i.tensor(1)().tolist())
    for step in range(3):
        x()[:] = step
        i.invoke()
        t.note(float(y().sum()))
    i.resize_tensor_input(0, [1, 3])
    t(x)
    i.allocate_tensors()
    x()[:] = 1
    i.invoke()
    t.note(y())


def guard(m: Any, models: Any, t: Any) -> None:
    i = ready(m, models.made("plain"))
    for hold in (
        lambda: i.tensor(0)(),
        lambda: i.tensor(3)()[1:],
        lambda: i.tensor(1)(),
        lambda: i.tensor(0)().reshape(-1),
        lambda: [i.tensor(0)(), i.tensor(0)()],
        lambda: i.tensor(0)().T,
        lambda: memoryview(i.tensor(0)()),
    ):
        view = hold()
        t(i.invoke)
        t(i.allocate_tensors)
        t(i.resize_tensor_input, 0, [2, 3])
        t(i.set_tensor, 0, counted((2, 3)))
        t(i.get_tensor, 0)
        t(i.reset_all_variables)
        t(i.get_input_details)
        del view
        gc.collect()
        t(i.invoke)
    function = i.tensor(0)
    t(i.invoke)
    copy = function().copy()
    t(i.invoke)
    total = function().sum() + copy.sum()
    t(i.invoke)
    t.note(float(total))


def runner_and_guard(m: Any, models: Any, t: Any) -> None:
    i = ready(m, models.made("unknown_sizes"))
    runner = i.get_signature_runner()
    t(i.invoke)
    t(i.allocate_tensors)
    t(i.resize_tensor_input, 0, [2, 3])
    view = i.tensor(0)()
    t(lambda: runner(x=counted((1, 3))))
    del view, runner
    t(i.allocate_tensors)
    t(i.invoke)


# --- resizing -----------------------------------------------------------------------------------------------------


def resize(m: Any, models: Any, t: Any) -> None:
    i = ready(m, models.made("plain"))
    for size in ([4, 3], (1, 3), np.array([2, 3]), np.array([5, 3], np.int64), [2.0, 3.0], [3], [1, 2, 3]):
        t(i.resize_tensor_input, 0, size)
        t(i.get_input_details)
        t(i.allocate_tensors)
        shape = i.get_input_details()[0]["shape"]
        t(i.set_tensor, 0, counted(shape))
        t(i.invoke)
        t(i.get_tensor, 3)
        t(i.get_output_details)
    for wrong in ([[2, 3]], 6, [-1, 3], [2, -3], "ab", [None], ["x"]):
        t.roughly(i.resize_tensor_input, 0, wrong)
    t(i.resize_tensor_input, 1, [3])  # a constant, its own size
    t.kind(i.resize_tensor_input, 1, [4])
    t(i.resize_tensor_input, input_index=0, tensor_size=[2, 3], strict=False)
    t(i.allocate_tensors)
    t(i.resize_tensor_input, 0, [2, 3])  # as it is: stays ready
    t(i.set_tensor, 0, counted((2, 3)))
    t(i.invoke)
    t(i.get_tensor, 3)


def resize_strictly(m: Any, models: Any, t: Any) -> None:
    i = make(m, models.made("unknown_sizes"))
    t(i.resize_tensor_input, 0, [4, 3], strict=True)
    t(i.resize_tensor_input, 0, [4, 2], strict=True)
    t.kind(i.resize_tensor_input, 0, [3], strict=True)
    t.roughly(i.resize_tensor_input, 0, [-1, 3], strict=True)
    t(i.allocate_tensors)
    t(i.set_tensor, 0, counted((4, 3)))
    t(i.invoke)
    t(i.get_tensor, 1)
    t(i.resize_tensor_input, 0, [2, 3], True)
    i = make(m, models.made("plain"))
    t(i.resize_tensor_input, 0, [2, 3], strict=True)
    t(i.resize_tensor_input, 0, [3, 3], strict=True)
    t(i.resize_tensor_input, 0, [2, 2], strict=True)
    t.kind(i.resize_tensor_input, 0, [2, 3, 1], strict=True)
    t(i.resize_tensor_input, 0, [4, 3])
    t(i.resize_tensor_input, 0, [4, 3], strict=True)
    t(i.resize_tensor_input, 0, [2, 3], strict=True)


def resize_of_other_tensors(m: Any, models: Any, t: Any) -> None:
    i = ready(m, models.made("plain"))
    t(i.resize_tensor_input, 3, [9, 9])  # an output
    t(i.get_output_details)
    t(i.invoke)
    t(i.get_tensor, 3)
    t(i.set_tensor, 0, counted((2, 3)))
    t(i.allocate_tensors)
    t(i.get_output_details)
    t(i.set_tensor, 0, counted((2, 3)))
    t(i.invoke)
    t(i.get_tensor, 3)


def shapes_that_do_not_fit(m: Any, models: Any, t: Any) -> None:
    i = make(m, models.made("mismatch"))
    t.kind(i.allocate_tensors)
    t.kind(i.invoke)
    t(i.resize_tensor_input, 1, [2])
    t(i.allocate_tensors)
    t(i.set_tensor, 0, counted((2,)))
    t(i.set_tensor, 1, counted((2,)))
    t(i.invoke)
    t(i.get_tensor, 2)
    t(i.resize_tensor_input, 0, [5])
    t.kind(i.allocate_tensors)
    t.kind(i.invoke)
    t(i.set_tensor, 1, counted((2,)))


def one_input_resized(m: Any, models: Any, t: Any) -> None:
    i = make(m, models.made("mismatch"))
    i.resize_tensor_input(1, [2])
    i.allocate_tensors()
    for index in (0, 1):
        i.set_tensor(index, counted((2,)))
    i.invoke()
    i.resize_tensor_input(0, [1])
    t(i.set_tensor, 0, counted((1,)))  # not allocated
    t(i.set_tensor, 1, counted((2,)))  # still is
    t(i.get_tensor, 0)
    t(i.get_tensor, 1)
    t(i.get_tensor, 2)
    t(i.invoke)
    t(i.allocate_tensors)
    i.set_tensor(0, counted((1,)) + F(1))
    i.set_tensor(1, counted((2,)))
    i.invoke()
    t(i.get_tensor, 2)


def batches(m: Any, models: Any, t: Any) -> None:
    i = make(m, models.real("testdata/quantizer/single_add.tflite"))
    details = i.get_input_details()
    for batch in (1, 3, 2, 3):
        for d in details:
            i.resize_tensor_input(d["index"], [batch, *d["shape_signature"][1:]])
        i.allocate_tensors()
        for d in i.get_input_details():
            i.set_tensor(d["index"], counted(d["shape"]))
        i.invoke()
        t(i.get_output_details)
        t(i.get_tensor, i.get_output_details()[0]["index"])


# --- state --------------------------------------------------------------------------------------------------------


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


# --- control flow and shapes from data ----------------------------------------------------------------------------


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


# --- intermediates ------------------------------------------------------------------------------------------------


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


# --- signatures ---------------------------------------------------------------------------------------------------


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


# --- whole programs -----------------------------------------------------------------------------------------------


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


SCRIPTS = [
    name
    for name, value in list(globals().items())
    if callable(value)
    and getattr(value, "__module__", "") == __name__
    and name not in ("make", "ready", "describe", "counted")
]
