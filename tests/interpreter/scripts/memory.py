"""Views and their guard, and new shapes."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
from tests.interpreter.scripts.common import F, counted, make, ready

# --- views -----------------------------------------------------------------------------------------------------------


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
    t(runner, x=counted((1, 3)))
    del view, runner
    t(i.allocate_tensors)
    t(i.invoke)


# --- resizing --------------------------------------------------------------------------------------------------------


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
