"""``delegraph run``: what is shown of outputs, and the files that ``--output`` writes."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.cli.conftest import Call, Given, MakeModel, Result

from delegraph.cli.outputs import palette
from delegraph.core.graph.dtype import DType


@pytest.fixture
def shown(delegraph: Call, passing: MakeModel, tmp_path: Path) -> Call:
    """The result of a model whose outputs are these arrays: ``shown([(given, array), ...], *flags)``."""

    def run(outputs: list[tuple[Given, np.ndarray]], *flags: object) -> Result:
        model = passing(*(given for given, _ in outputs))
        files = []
        for i, (_, array) in enumerate(outputs):
            np.save(tmp_path / f"{i}.npy", array)
            files += ["--input", tmp_path / f"{i}.npy"]
        result = delegraph("run", model, *files, *flags)
        assert result.code == 0, result.err
        return result

    return run


SCORES = (Given(DType.UINT8, (1, 4), 1 / 256), np.array([[3, 250, 3, 0]], np.uint8))


def test_scores_are_dequantized_and_sorted(shown: Call, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("zero\none\ntwo\nthree\n")
    result = shown([SCORES], "--labels", labels, "--top", 3, "--json")
    output = result.json["outputs"][0]
    assert output["kind"] == "classes" and output["n_classes"] == 4
    assert [(c["index"], c["label"], c["raw"]) for c in output["classes"]] == [
        (1, "one", 250),
        (0, "zero", 3),
        (2, "two", 3),
    ]
    assert output["classes"][0]["score"] == 250 / 256
    text = shown([SCORES], "--labels", labels).out.splitlines()
    assert text[0] == "x  uint8[1,4], 4 highest of 4"
    assert text[2].split() == ["1", "one", "0.9766"]


@pytest.mark.parametrize("shape", [(4,), (1, 4), (1, 1, 1, 4)])
def test_shapes_of_scores(shown: Call, shape: tuple[int, ...]) -> None:
    array = np.array([0.1, 0.2, 0.6, 0.1], np.float32).reshape(shape)
    output = shown([(Given(DType.FLOAT32, shape), array)], "--json").json["outputs"][0]
    assert (output["kind"], output["classes"][0]["index"]) == ("classes", 2)


def test_other_label_formats_and_counts(shown: Call, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("\ufeff0  nought\n1: one, uno\n7 seven\n", encoding="utf-8")
    result = shown([SCORES], "--labels", labels, "--json")
    assert [c["label"] for c in result.json["outputs"][0]["classes"][:2]] == ["one, uno", "nought"]
    assert "labels up to class 7" in result.err and "classes up to 3" in result.err


def test_class_maps(shown: Call, tmp_path: Path) -> None:
    classes = np.zeros((1, 16, 20), np.int64)
    classes[0, 4:8, :5] = 3
    labels = tmp_path / "labels.txt"
    labels.write_text("background\na\nb\nbird\n")
    mask = tmp_path / "mask.png"
    result = shown([(Given(DType.INT64, classes.shape), classes)], "--labels", labels, "--output", mask)
    assert result.out.splitlines()[3].split() == ["3", "bird", "20", "6.2", "%"]
    picture = Image.open(mask)
    assert picture.mode == "P" and np.array_equal(np.asarray(picture), classes[0])
    colours = picture.getpalette()
    assert colours is not None and colours[9:12] == palette()[9:12] == [128, 128, 0]
    scores = np.random.default_rng(0).uniform(-1, 1, (1, 16, 16, 5)).astype(np.float32)
    output = shown([(Given(DType.FLOAT32, scores.shape), scores)], "--json").json["outputs"][0]
    assert output["kind"] == "class_map"
    counts = {c["index"]: c["pixels"] for c in output["classes"]}
    assert counts == {i: int(n) for i, n in enumerate(np.bincount(scores[0].argmax(-1).ravel()))}


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (0, 255), (-3, 5)])
def test_pictures(shown: Call, tmp_path: Path, low: float, high: float) -> None:
    wanted = np.arange(16 * 16 * 3).reshape(16, 16, 3) % 256
    reals = (wanted / 255 * (high - low) + low).astype(np.float32)[None]
    out = tmp_path / "out.png"
    result = shown([(Given(DType.FLOAT32, reals.shape), reals)], "--output", out, "--json")
    assert result.json["outputs"][0]["kind"] == "picture"
    assert np.array_equal(np.asarray(Image.open(out)), wanted)


def test_boxes(shown: Call, tmp_path: Path) -> None:
    boxes = np.linspace(0, 1, 12, dtype=np.float32).reshape(1, 3, 4)
    outputs = [
        (Given(DType.FLOAT32, (1, 3, 4), name="boxes"), boxes),
        (Given(DType.FLOAT32, (1, 3), name="classes"), np.array([[1, 0, 1]], np.float32)),
        (Given(DType.FLOAT32, (1, 3), name="scores"), np.array([[0.2, 0.9, 0.5]], np.float32)),
        (Given(DType.FLOAT32, (1,), name="count"), np.array([2], np.float32)),
    ]
    labels = tmp_path / "labels.txt"
    labels.write_text("person\ncat\n")
    found = shown(outputs, "--labels", labels, "--json").json["detections"]
    assert found["n_found"] == 2
    assert [(b["label"], round(b["score"], 3)) for b in found["boxes"]] == [("person", 0.9), ("cat", 0.2)]
    assert found["boxes"][1]["box"] == [float(v) for v in boxes[0, 0]]
    assert "person" in shown([outputs[i] for i in (2, 0, 3, 1)], "--labels", labels).out


def test_other_arrays_are_shown_in_numbers(shown: Call) -> None:
    array = np.array([[1.5, np.nan, -2], [0, np.inf, 1]], np.float32)
    result = shown([(Given(DType.FLOAT32, (2, 3)), array)])
    assert result.out.splitlines()[:2] == ["x  float32[2,3]", "  1.5, nan, -2, 0, inf, 1"]
    output = shown([(Given(DType.FLOAT32, (2, 3)), array)], "--json").json["outputs"][0]
    assert (output["kind"], output["min"], output["max"], output["n_not_finite"]) == ("array", -2, 1.5, 2)
    empty = np.zeros((2, 0), np.float32)
    assert "no values" in shown([(Given(DType.FLOAT32, (2, -1)), empty)]).out


def test_output_files(shown: Call, tmp_path: Path) -> None:
    array = np.linspace(-1, 1, 6, dtype=np.float32)[None]
    outputs = [(Given(DType.FLOAT32, (1, 6)), array)]
    shown(outputs, "--output", tmp_path / "o.npy")
    assert np.array_equal(np.load(tmp_path / "o.npy"), array)
    shown(outputs, "--output", tmp_path / "o.npz")
    assert np.array_equal(np.load(tmp_path / "o.npz")["x"], array)
    shown(outputs, "--output", tmp_path / "o.json")
    report = json.loads((tmp_path / "o.json").read_text())
    assert report["values"]["x"] == array.tolist() and report["outputs"][0]["name"] == "x"
    shown(outputs, "--output", tmp_path / "o.wav")
    with wave.open(str(tmp_path / "o.wav"), "rb") as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getnframes()) == (16000, 1, 6)
        samples = np.frombuffer(sound.readframes(6), np.int16)
    assert np.abs(samples / 32768 - array[0]).max() < 1e-4


def test_repeat_and_placement(shown: Call) -> None:
    result = shown([SCORES], "--repeat", 3, "--placement", "--json")
    assert result.json["timing"]["runs"] == 3 and result.json["placement"]["ops"] == []
    assert "(2 runs after a first one of" in shown([SCORES], "--repeat", 3).out


def test_control_characters_in_labels_do_not_reach_the_terminal(shown: Call, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("zero\n\x1b[31mred\ntwo\nthree\n")
    out = shown([SCORES], "--labels", labels).out
    assert "\x1b" not in out and "\\x1b[31mred" in out
