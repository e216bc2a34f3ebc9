"""Behaviour of ``dg.Interpreter`` that needs no LiteRT: views and their guard, values, errors, threads, devices."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import numpy as np
import pytest
from tests.interpreter import samples

import delegraph as dg
from delegraph.interpreter import Interpreter, load_delegate

X = np.arange(6, dtype=np.float32).reshape(2, 3)
TENS = np.array([10, 20, 30], np.float32)
SUM = X + TENS


@pytest.fixture
def plain() -> Interpreter:
    interpreter = Interpreter(model_content=samples.plain())
    interpreter.allocate_tensors()
    return interpreter


def test_the_usual_script(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(samples.plain())
    interpreter = dg.Interpreter(model_path=path, num_threads=2)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], X)
    interpreter.invoke()
    square, total = (interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details())
    np.testing.assert_array_equal(total, SUM)
    np.testing.assert_array_equal(square, SUM * SUM + SUM)


def test_a_file_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(samples.plain())
    interpreter = Interpreter(str(path))
    path.unlink()  # the mapping lives on
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, X)
    interpreter.invoke()
    np.testing.assert_array_equal(interpreter.get_tensor(2), SUM)


class TestViews:
    def test_a_view_is_the_tensor_itself(self, plain: Interpreter) -> None:
        view = plain.tensor(0)()
        view[:] = X
        np.testing.assert_array_equal(plain.get_tensor(0), X)
        assert view.flags.writeable and not view.flags.owndata

    @pytest.mark.parametrize("call", ["invoke", "allocate_tensors", "resize_tensor_input"])
    def test_the_guard(self, plain: Interpreter, call: str) -> None:
        arguments = (0, [2, 3]) if call == "resize_tensor_input" else ()
        view = plain.tensor(0)()[1:]
        with pytest.raises(RuntimeError, match="There is at least 1 reference to internal data"):
            getattr(plain, call)(*arguments)
        del view
        gc.collect()
        getattr(plain, call)(*arguments)

    def test_a_function_may_be_held(self, plain: Interpreter) -> None:
        x, y = plain.tensor(0), plain.tensor(2)
        x()[:] = X
        plain.invoke()
        np.testing.assert_array_equal(y(), SUM)

    def test_a_view_outlives_its_interpreter(self) -> None:
        interpreter = Interpreter(model_content=samples.plain())
        interpreter.allocate_tensors()
        interpreter.set_tensor(0, X)
        view = interpreter.tensor(0)()
        del interpreter
        gc.collect()
        np.testing.assert_array_equal(view, X)

    def test_a_view_of_a_constant_is_read_only(self, plain: Interpreter) -> None:
        with pytest.raises(ValueError, match="read-only"):
            plain.tensor(1)()[0] = 1

    def test_a_view_of_an_empty_tensor(self) -> None:
        interpreter = Interpreter(model_content=samples.descriptions())
        (index,) = (d["index"] for d in interpreter.get_tensor_details() if d["name"] == "empty")
        assert interpreter.tensor(index)().shape == (0, 3)


class TestDifferencesOnPurpose:
    """What docs/interpreter.md lists."""

    def test_a_constant_is_not_to_be_set(self, plain: Interpreter) -> None:
        with pytest.raises(ValueError, match="is a constant of the model"):
            plain.set_tensor(1, np.zeros(3, np.float32))

    def test_messages_do_not_pile_up(self, plain: Interpreter) -> None:
        plain.resize_tensor_input(0, [1, 3])
        for _ in range(2):
            with pytest.raises(RuntimeError) as info:
                plain.invoke()
            assert str(info.value) == "Invoke called on model that is not ready."

    def test_big_endian_values_are_swapped(self, plain: Interpreter) -> None:
        plain.set_tensor(0, X.astype(">f4"))
        np.testing.assert_array_equal(plain.get_tensor(0), X)

    def test_an_intermediate_is_null(self, plain: Interpreter) -> None:
        plain.set_tensor(0, X)
        plain.invoke()
        with pytest.raises(ValueError, match="Tensor data is null"):
            plain.get_tensor(4)

    def test_strings_without_dimensions(self) -> None:
        interpreter = Interpreter(model_content=samples.one_string())
        interpreter.allocate_tensors()
        for value in (np.array("text"), np.array(b"text"), np.array("text", object)):
            interpreter.set_tensor(0, value)
            assert interpreter.get_tensor(0).item() == b"text"

    def test_shapes_that_only_a_run_knows_show_on_outputs_alone(self) -> None:
        interpreter = Interpreter(model_content=samples.data_dependent())
        interpreter.allocate_tensors()
        interpreter.set_tensor(0, np.array([1, 2, 1, 2], np.float32))
        interpreter.invoke()
        shapes = {d["name"]: d["shape"].tolist() for d in interpreter.get_tensor_details()}
        assert shapes["twice"] == [2] and shapes["values"] == [0]

    def test_an_empty_result_can_be_read(self) -> None:
        interpreter = Interpreter(model_content=samples.no_hits())
        interpreter.allocate_tensors()
        for value, hits in ((True, 2), (False, 0)):
            interpreter.set_tensor(0, np.full(2, value))
            interpreter.invoke()
            assert interpreter.get_tensor(1).shape == (hits, 1)

    def test_bfloat16_shows_as_its_bits(self) -> None:
        interpreter = Interpreter(model_content=samples.bfloat16())
        assert [d["dtype"] for d in interpreter.get_tensor_details()][-1] is np.uint16
        assert interpreter.get_tensor(2).tolist() == [1, 2]

    def test_the_list_of_tensors_does_not_grow(self, plain: Interpreter) -> None:
        fresh = Interpreter(model_content=samples.plain())
        assert len(plain.get_tensor_details()) == len(fresh.get_tensor_details())

    def test_views_of_small_integers_are_unpacked(self) -> None:
        interpreter = Interpreter(model_content=samples.four_bits())
        interpreter.allocate_tensors()
        interpreter.tensor(0)()[:] = [1, -2, 3, -4, 5]
        assert interpreter.get_tensor(0).tolist() == [1, -2, 3, -4, 5]

    def test_delegates_are_refused(self) -> None:
        with pytest.raises(ValueError, match="Failed to load delegate"):
            Interpreter(model_content=samples.plain(), experimental_delegates=[object()])
        with pytest.raises(ValueError, match="Failed to load delegate from"):
            load_delegate(__file__)
        with pytest.raises(OSError, match="cannot open shared object file"):
            load_delegate("libedgetpu.so.1")

    def test_memory_of_inputs_and_outputs_starts_as_zeros(self, plain: Interpreter) -> None:
        assert not plain.get_tensor(0).any() and not plain.get_tensor(2).any()


def test_errors_name_what_is_wrong_with_the_model() -> None:
    with pytest.raises(ValueError, match=r"not a valid Flatbuffer buffer: .*TFL3"):
        Interpreter(model_content=b"age limit")
    with pytest.raises(ValueError, match="STABLEHLO_COSINE"):
        Interpreter(model_content=samples.missing_builtin())
    interpreter = Interpreter(model_content=samples.custom_op())
    with pytest.raises(RuntimeError, match="Encountered unresolved custom op: NobodyKnowsMe"):
        interpreter.allocate_tensors()


def test_a_failed_run_leaves_the_old_result() -> None:
    interpreter = Interpreter(model_content=samples.gather())
    interpreter.allocate_tensors()
    interpreter.set_tensor(1, np.array([1], np.int32))
    interpreter.invoke()
    interpreter.set_tensor(1, np.array([7], np.int32))
    with pytest.raises(RuntimeError):
        interpreter.invoke()
    assert interpreter.get_tensor(2).tolist() == [6.0]


def test_one_interpreter_per_thread() -> None:
    content = samples.plain()
    results: dict[int, list[bool]] = {}

    def work(number: int) -> None:
        interpreter = Interpreter(model_content=content)
        interpreter.resize_tensor_input(0, [number + 1, 3])
        interpreter.allocate_tensors()
        same = []
        for step in range(20):
            x = np.full((number + 1, 3), number * 100 + step, np.float32)
            interpreter.set_tensor(0, x)
            interpreter.invoke()
            same.append(bool((interpreter.get_tensor(2) == x + TENS).all()))
        results[number] = same

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: [True] * 20 for number in range(4)}


class TestDevices:
    def test_a_device_by_name(self) -> None:
        interpreter = Interpreter(model_content=samples.plain(), devices="reference")
        interpreter.allocate_tensors()
        assert {row.device for row in interpreter.placement.rows} == {"reference"}

    def test_devices_are_checked_as_compile_checks_them(self) -> None:
        with pytest.raises(dg.InvalidArgument, match="devices: expected a device's id, or a list of ids, found 3"):
            Interpreter(model_content=samples.plain(), devices=3)  # type: ignore[arg-type]

    def test_an_unknown_device_fails_at_once(self) -> None:
        with pytest.raises(dg.InvalidArgument, match="devices: expected one of"):
            Interpreter(model_content=samples.plain(), devices="abacus")
