"""The shared models end to end against LiteRT's reference kernels, and the facts that people can check by eye."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.agreement import compare
from PIL import Image
from tests.support import require, shared_path

import delegraph as dg
from delegraph.testing import Oracle

REAL = shared_path() / "models" / "real"
QUICK_BYTES = 600_000


def _foundation() -> list[str]:
    page = shared_path() / "models" / "foundation.md"
    if not page.is_file():
        return []
    (line,) = [text for text in page.read_text().splitlines() if text.startswith("`mobilenet_v1_0.25_128_quant`")]
    return re.findall(r"`([^`]+)`", line)


MODELS = _foundation()


def _is_quick(name: str) -> bool:
    return (REAL / f"{name}.tflite").stat().st_size < QUICK_BYTES


def _check(name: str, oracle: Oracle) -> None:
    row = compare(REAL / f"{name}.tflite", name, "reference", oracle, runs=2)
    if name == "person_detect":
        assert row.outcome == "no oracle" and row.reason.endswith("delegraph: runs it")
        return
    assert row.outcome == "agrees", row
    assert row.top1 != "no", row


def test_the_list_of_models_is_there() -> None:
    require("shared")
    assert len(MODELS) == 39


@pytest.mark.parametrize("name", [name for name in MODELS if _is_quick(name)])
def test_model_agrees(name: str, oracle: Oracle) -> None:
    _check(name, oracle)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if not _is_quick(name)])
def test_larger_model_agrees(name: str, oracle: Oracle) -> None:
    _check(name, oracle)


def _facts() -> list[dict[str, Any]]:
    page = shared_path() / "models" / "inputs" / "expected.json"
    facts: list[dict[str, Any]] = json.loads(page.read_text())["facts"] if page.is_file() else []
    return [fact for fact in facts if fact["model"].removesuffix(".tflite") in MODELS]


def _input(fact: dict[str, Any], model: dg.CompiledModel) -> np.ndarray:
    path: Path = shared_path() / "models" / "inputs" / fact["input"]
    if path.suffix == ".npy":
        x: np.ndarray = np.load(path)
        return (x / 127.5 - 1).astype(np.float32) if "127.5" in fact["preprocess"] else x
    if path.suffix == ".png":
        return np.asarray(Image.open(path).convert("RGB"), np.uint8)[None]
    pytest.fail(f"the test does not know how to read {path.name}")


@pytest.mark.parametrize(
    "fact",
    [f for f in _facts() if f["fact"].startswith("top-1")],
    ids=lambda f: f["model"].split(".tflite")[0],
)
def test_top_classes_of_a_picture(fact: dict[str, Any]) -> None:
    model = dg.compile(REAL / fact["model"])
    scores = model(_input(fact, model)).reshape(-1)
    best = np.argsort(-scores.astype(np.float64), kind="stable")[:3]
    assert best.tolist() == [row[0] for row in fact["top3"]]
    expected = [row[2] for row in fact["top3"]]
    np.testing.assert_allclose(scores[best], expected, rtol=1e-3)


@pytest.mark.parametrize("fact", [f for f in _facts() if "covers" in f["fact"]], ids=lambda f: f["model"])
def test_pixels_of_a_class(fact: dict[str, Any]) -> None:
    model = dg.compile(REAL / fact["model"])
    classes = model(_input(fact, model))
    found = re.fullmatch(r"class (\w+) covers (\d+) of (\d+) pixels", fact["fact"])
    assert found is not None
    labels = (shared_path() / "models" / "labels" / "pascal_voc_segmentation.txt").read_text().splitlines()
    assert int((classes == labels.index(found[1])).sum()) == int(found[2])
    assert classes.size == int(found[3])
