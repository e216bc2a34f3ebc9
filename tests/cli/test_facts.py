"""The facts of the shared models: what LiteRT's reference kernels say of real pictures and sounds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.cli.conftest import Call
from tests.support import require, shared_path

from delegraph.core.ops import registry

PICTURE = "grace_hopper.jpg"
IMAGENET = "imagenet_1001.txt"


@pytest.fixture(scope="module")
def models() -> Path:
    require("shared")
    return shared_path() / "models"


def needs(op: str) -> None:
    if registry.find(op) is None:
        pytest.skip(f"needs a kernel for {op}")


def fact(models: Path, model: str, input_name: str | None = None) -> Any:
    facts = json.loads((models / "inputs" / "expected.json").read_text())["facts"]
    return next(f for f in facts if f["model"] == model and input_name in (None, f["input"]))


def report(delegraph: Call, models: Path, model: str, input_name: str, *flags: object) -> Any:
    path, data = models / "real" / model, models / "inputs" / input_name
    result = delegraph("run", path, "--input", data, *flags, "--json")
    assert result.code == 0, result.err
    return result.json


def test_the_picture_is_a_military_uniform(delegraph: Call, models: Path) -> None:
    model = models / "real" / "mobilenet_v2_1.0_224_quant.tflite"
    labels = models / "labels" / IMAGENET
    result = delegraph("run", model, "--input", models / "inputs" / PICTURE, "--labels", labels)
    assert result.code == 0, result.err
    assert result.out.splitlines()[2].split() == ["653", "military", "uniform", "0.9141"]


@pytest.mark.parametrize(
    ("model", "flags"),
    [
        ("mobilenet_v1_0.25_128_quant", ()),
        ("mobilenet_v1_0.5_160_quant", ()),
        ("mobilenet_v2_1.0_224_quant", ()),
        ("mobilenet_edgetpu_0.75_224_ptq", ()),
        ("mobilenet_v1_0.25_224_float", ("--normalize", "-1..1")),
    ],
)
@pytest.mark.parametrize("as_picture", [True, False])
def test_classification(delegraph: Call, models: Path, model: str, flags: tuple[str, ...], as_picture: bool) -> None:
    expected = fact(models, f"{model}.tflite")
    labels = ("--labels", models / "labels" / IMAGENET)
    name = PICTURE if as_picture else expected["input"]
    found = report(delegraph, models, f"{model}.tflite", name, "--top", 3, *flags, *labels)
    _compare(found["outputs"][0]["classes"], expected["top3"])


def _compare(classes: Any, top3: Any) -> None:
    for found, (index, label, raw) in zip(classes, top3, strict=True):
        assert (found["index"], found["label"]) == (index, label)
        assert found["raw"] == (raw if isinstance(raw, int) else pytest.approx(raw, rel=1e-4))


@pytest.mark.parametrize(
    ("model", "flags"),
    [
        ("mnist_lstm_float", ("--normalize", "0..1")),
        ("mnist_lstm_int8", ()),
        ("keras_lstm_mnist_ptq", ()),
    ],
)
def test_digits(delegraph: Call, models: Path, model: str, flags: tuple[str, ...]) -> None:
    needs("UNIDIRECTIONAL_SEQUENCE_LSTM")
    expected = fact(models, f"{model}.tflite")
    found = report(delegraph, models, f"{model}.tflite", expected["input"], "--top", 3, *flags)
    _compare(found["outputs"][0]["classes"], expected["top3"])


def test_segmentation(delegraph: Call, models: Path, tmp_path: Path) -> None:
    expected = fact(models, "deeplabv3_mnv2_dm05_pascal_quant.tflite")
    mask = tmp_path / "mask.png"
    labels = models / "labels" / "pascal_voc_segmentation.txt"
    found = report(delegraph, models, expected["model"], expected["input"], "--labels", labels, "--output", mask)
    output = found["outputs"][0]
    assert {str(c["index"]): c["pixels"] for c in output["classes"]} == expected["pixels_per_class"]
    assert [c["label"] for c in output["classes"]][:2] == ["background", "bird"]
    assert int((np.asarray(Image.open(mask)) == 3).sum()) == expected["pixels_per_class"]["3"]


@pytest.mark.parametrize("picture", ["cat", "bird"])
@pytest.mark.parametrize("as_picture", [True, False])
def test_detection(delegraph: Call, models: Path, picture: str, as_picture: bool) -> None:
    needs("TFLite_Detection_PostProcess")
    model = "ssd_mobilenet_v1_coco_quant.tflite"
    expected = fact(models, model, f"{picture}_300_u8.npy")
    name = f"{picture}.png" if as_picture else expected["input"]
    labels = models / "labels" / "coco.txt"
    found = report(delegraph, models, model, name, "--labels", labels)["detections"]
    assert found["n_found"] == expected["n"]
    index, label, score, box = expected["detections"][0]
    best = found["boxes"][0]
    assert (best["index"], best["label"]) == (index, label)
    assert best["score"] == pytest.approx(score, abs=1e-4)
    assert best["box"] == pytest.approx(box, abs=1e-4)


def test_sound(delegraph: Call, models: Path) -> None:
    needs("RFFT2D")
    expected = fact(models, "yamnet_audio_classifier.tflite")
    found = report(delegraph, models, expected["model"], expected["input"], "--top", 3)
    classes = found["outputs"][0]["classes"]
    assert [(c["index"], c["label"]) for c in classes] == [(i, label) for i, label, _ in expected["top3"]]
    for each, (_, _, score) in zip(classes, expected["top3"], strict=True):
        assert each["score"] == pytest.approx(score, abs=0.01)


def test_pose(delegraph: Call, models: Path, tmp_path: Path) -> None:
    expected = fact(models, "movenet_single_pose_lightning_ptq.tflite")
    out = tmp_path / "pose.npy"
    report(delegraph, models, expected["model"], PICTURE, "--output", out)
    np.testing.assert_allclose(np.load(out)[0, 0], expected["keypoints"], atol=1e-4)
