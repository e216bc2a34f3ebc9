"""The order of calls, and the values that tensors take and give."""

from __future__ import annotations

from typing import Any

import numpy as np
from tests.interpreter.scripts.common import F, counted, make, ready

# --- order of calls --------------------------------------------------------------------------------------------------


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
    for other in (0.0, "0", None, [0], 2**40):
        t.roughly(i.get_tensor, other)
        t.roughly(i.set_tensor, other, x)
        t.roughly(i.tensor(other))
        t.roughly(i.resize_tensor_input, other, [2, 3])
    t(i.get_tensor, 0, 1)
    t(i.get_tensor, 0, -1)
    t(i.get_tensor, 0, subgraph_index=0)
    t.kind(i.get_tensor)
    t.kind(i.set_tensor, 0)


# --- values ----------------------------------------------------------------------------------------------------------


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
