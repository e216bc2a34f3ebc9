"""A small model to try things with: it reads handwritten digits of 8x8 pixels.

Two forms of one network, ``digits_float.tflite`` and ``digits_int8.tflite``, and real images that it was not trained
with, ``digits.npz``; all made by ``tools/train_digits.py``.

The images are from "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak, UCI Machine Learning
Repository, https://doi.org/10.24432/C50P49, licensed CC BY 4.0, as scikit-learn brings them.

>>> import delegraph as dg
>>> from delegraph import demo
>>> images, labels = demo.images()
>>> model = dg.compile(demo.model_path("float"), devices="reference")
>>> scores = model(demo.model_input(model, images))
>>> scores.shape
(20, 10)
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

import delegraph as dg
from delegraph.core.errors import InvalidArgument
from delegraph.core.graph.graph import Array

MODELS = ("int8", "float")
BRIGHTEST = 16
"""The value of a white pixel."""

_FOLDER = Path(__file__).parent


def model_path(name: str) -> Path:
    """Where a model lies: "int8" or "float"."""
    if name not in MODELS:
        raise InvalidArgument("model", f"one of {', '.join(MODELS)}", repr(name))
    return _FOLDER / f"digits_{name}.tflite"


def images() -> tuple[Array, Array]:
    """Images that the models were not trained with, uint8 [n, 8, 8] in 0..16, and what they show, uint8 [n]."""
    with np.load(_FOLDER / "digits.npz") as file:
        return file["images"], file["labels"]


def model_input(model: dg.CompiledModel, pictures: Array) -> Array:
    """Images [n, 8, 8] in 0..16 as the model takes them: [n, 8, 8, 1] in 0..1, quantized if its input is."""
    x = (pictures / np.float32(BRIGHTEST)).astype(np.float32)[..., None]
    quantization = model.inputs[0].quantization
    if quantization is None:
        return x
    q = np.rint(x / quantization.scale) + quantization.zero_point
    return np.asarray(np.clip(q, -128, 127), np.int8)


def scores(model: dg.CompiledModel, output: Array) -> Array:
    """A model's output as probabilities, float32 [n, 10]."""
    quantization = model.outputs[0].quantization
    if quantization is None:
        return output
    return np.asarray((output.astype(np.float32) - quantization.zero_point) * quantization.scale, np.float32)


def accuracy(path: str | os.PathLike[str], pictures: Array, labels: Array) -> float:
    """The share of images [n, 8, 8] that the model at path, on the reference device, gets right."""
    model = dg.compile(path, devices="reference", plan=False)
    answers = model(model_input(model, pictures)).argmax(-1)
    return float((answers == labels).mean())
