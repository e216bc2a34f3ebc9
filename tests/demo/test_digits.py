"""The demo's models: as right as they were, the same as LiteRT, and what the training script makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tools import train_digits
from tools.train_digits import Digits

import delegraph as dg
from delegraph import demo
from delegraph.core.graph.graph import Array
from delegraph.testing import Oracle

FOLDER = demo.model_path("int8").parent
OPS = ["CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "MAX_POOL_2D", "RESHAPE", "FULLY_CONNECTED", "SOFTMAX"]
CEILING_BYTES = 200_000


@pytest.fixture(scope="module")
def held_out() -> Digits:
    """The images that the models were not trained with."""
    pytest.importorskip("sklearn", reason="needs scikit-learn, for its images")
    return train_digits.load_digits()[1]


def _outputs(name: str, pictures: Array) -> tuple[Array, Array]:
    """A model's input for the pictures, and its output."""
    model = dg.compile(demo.model_path(name), devices="reference")
    x = demo.model_input(model, pictures)
    return x, model(x)


def test_both_models_are_right_about_held_out_images(held_out: Digits) -> None:
    right = {name: demo.accuracy(demo.model_path(name), *held_out) for name in demo.MODELS}
    assert min(right.values()) >= 0.97
    assert abs(right["int8"] - right["float"]) <= 0.01


def test_int8_model_is_bit_identical_to_litert(held_out: Digits, oracle: Oracle) -> None:
    x, y = _outputs("int8", held_out.images)
    expected = oracle.run(demo.model_path("int8"), [x], resolver="reference").outputs[0]
    assert y.dtype == expected.dtype == np.int8
    np.testing.assert_array_equal(y, expected)


def test_float_model_agrees_with_litert(held_out: Digits, oracle: Oracle) -> None:
    x, y = _outputs("float", held_out.images)
    expected = oracle.run(demo.model_path("float"), [x], resolver="reference").outputs[0]
    # Sums of at most 512 products of size 1 in any order, then a softmax, whose slope is at most 1/4.
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("resolver", ["reference", "builtin", "default"])
@pytest.mark.parametrize("name", demo.MODELS)
def test_every_litert_kernel_set_takes_the_models(name: str, resolver: str, oracle: Oracle) -> None:
    pictures, labels = demo.images()
    x, _ = _outputs(name, pictures)
    answers = oracle.run(demo.model_path(name), [x], resolver=resolver).outputs[0].argmax(-1)
    assert (answers == labels).mean() >= 0.9


@pytest.mark.parametrize("name", demo.MODELS)
def test_signature(name: str) -> None:
    model = dg.compile(demo.model_path(name), devices="reference")
    x = demo.model_input(model, demo.images()[0])
    scores = model.signature("serving_default")(image=x)["scores"]
    np.testing.assert_array_equal(scores, model(x))
    np.testing.assert_allclose(demo.scores(model, scores).sum(-1), 1, atol=0.03)


@pytest.mark.parametrize("name", demo.MODELS)
def test_ops_and_credit(name: str) -> None:
    model = dg.load(demo.model_path(name))
    assert [model.op_name(op) for op in model.subgraphs[0].operators] == OPS
    assert "CC BY 4.0" in model.root.description


def test_images_are_held_out_ones(held_out: Digits) -> None:
    pictures, labels = demo.images()
    assert pictures.dtype == np.uint8 and pictures.max() == demo.BRIGHTEST
    expected = train_digits.samples(held_out)
    np.testing.assert_array_equal(pictures, expected.images)
    np.testing.assert_array_equal(labels, expected.labels)


def test_no_training_image_is_held_out(held_out: Digits) -> None:
    training = {image.tobytes() for image in train_digits.load_digits()[0].images}
    assert not [image for image in held_out.images if image.tobytes() in training]


def test_unknown_model() -> None:
    with pytest.raises(dg.InvalidArgument, match="expected one of int8, float, found 'float16'"):
        demo.model_path("float16")


def test_files_are_small() -> None:
    files = [*FOLDER.glob("*.tflite"), FOLDER / "digits.npz"]
    assert len(files) == 3
    assert sum(path.stat().st_size for path in files) < CEILING_BYTES


@pytest.mark.slow
def test_training_makes_the_same_files_again(tmp_path: Path, held_out: Digits) -> None:
    """To the byte, on any CPU: the rounding of the weights swallows what another order of sums changes."""
    train_digits.make(tmp_path)
    for name in demo.MODELS:
        path = demo.model_path(name)
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), "run: python -m tools.train_digits"
    with np.load(tmp_path / "digits.npz") as made:
        np.testing.assert_array_equal(made["images"], demo.images()[0])
        np.testing.assert_array_equal(made["labels"], demo.images()[1])
