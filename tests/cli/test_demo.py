"""``delegraph demo``: the answers, the picture of them, and terminals that can show less."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from delegraph import demo
from delegraph.cli import main, render, thumbnails
from delegraph.cli.commands.demo import MOST
from delegraph.cli.failures import Exit
from delegraph.cli.thumbnails import Thumbnail

ROOT = Path(__file__).parents[2]
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def _run(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(["demo", *args]) == Exit.OK
    return capsys.readouterr().out


@pytest.mark.parametrize("name", demo.MODELS)
def test_json(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(_run(capsys, "--model", name, "--count", str(MOST), "--devices", "reference", "--json"))
    assert (found["model"], found["count"], len(found["images"])) == (name, MOST, MOST)
    assert [image["label"] for image in found["images"]] == demo.images()[1].tolist()
    assert found["right"] == sum(image["right"] for image in found["images"]) >= MOST - 1
    assert all(image["right"] == (image["answer"] == image["label"]) for image in found["images"])
    assert all(0.1 <= image["confidence"] <= 1 for image in found["images"])
    assert found["timing"]["runs"] > MOST and found["timing"]["median_ms"] > 0
    assert {row["device"] for row in found["placement"]["ops"]} == {"reference"} == set(found["devices"])
    assert Path(found["path"]) == demo.model_path(name)


@pytest.mark.parametrize("name", demo.MODELS)
def test_text(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = _run(capsys, "--model", name, "--count", "10")
    assert max(map(len, text.splitlines())) <= 80
    assert text.split().count("right") == 10 and "10 of 10 right;" in text
    assert "DEPTHWISE_CONV_2D" in text and "time per image" in text
    assert "delegraph run MODEL --input PICTURE" in text and "delegraph devices" in text
    assert "█" in text and "\x1b" not in text


def test_why_other_devices_were_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(_run(capsys, "--count", "1", "--json"))
    text = " ".join(_run(capsys, "--count", "1").split())
    asked = [each for row in found["placement"]["ops"] for each in row["candidates"]]
    for device, why in {(each["device"], each["reason"]) for each in asked if each["verdict"] == "no"}:
        assert f"not {device}" in text and why in text


def test_one_image(capsys: pytest.CaptureFixture[str]) -> None:
    assert "1 of 1 right" in _run(capsys, "--count", "1")


def test_colours_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "is_terminal", lambda: True)
    for name, value in {
        "FORCE_COLOR": "1",
        "COLORTERM": "truecolor",
        "TERM": "xterm",
        "COLUMNS": "80",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = _run(capsys, "--count", "12")
    assert "▀" in text and "\x1b[38;2;255;255;255" in text
    lines = ESCAPE.sub("", text).splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("▀" in line for line in lines) == 2 * 4


def test_no_colours_if_the_user_wants_none(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "is_terminal", lambda: True)
    for name, value in {"FORCE_COLOR": "1", "NO_COLOR": "1", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    text = _run(capsys, "--count", "2")
    assert "▀" not in text and "█" in text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_stdout_that_lacks_block_characters(encoding: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "delegraph", "demo", "--count", "4"],
        capture_output=True,
        env={
            **os.environ,
            "LC_ALL": "C",
            "PYTHONIOENCODING": encoding,
            "PYTHONPATH": str(ROOT / "src"),
        },
    )
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode("ascii")
    assert "@@" in text and "4 of 4 right" in text and "\\u" not in text


def test_unknown_device(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--devices", "abacus"]) == Exit.BAD_INPUT
    assert "abacus" in capsys.readouterr().err


@pytest.mark.parametrize("count", ["0", str(MOST + 1), "many"])
def test_count_out_of_range(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--count", count]) == Exit.USAGE


def test_there_are_as_many_images_as_the_option_allows() -> None:
    assert len(demo.images()[0]) == MOST


def test_a_wrong_answer_is_shown_as_one() -> None:
    from delegraph.cli.commands.demo import _caption

    row = {"answer": 3, "confidence": 0.512, "right": False, "label": 8}
    assert _caption(row) == ("3  51.2%", "wrong, is 8")
    assert _caption({**row, "right": True, "confidence": 0.99999}) == ("3  >99.9%", "right")


def test_thumbnails_side_by_side() -> None:
    picture = np.array([[0.0, 1.0], [0.5, 0.25]])
    lines = list(thumbnails.plain_lines([Thumbnail(picture, ("a",)), Thumbnail(1 - picture, ("bcdef",))], " ░▒▓█"))
    assert lines == ["    ██    ██", "  ▒▒░░    ▒▒▓▓", "    a     bcdef", ""]


def test_thumbnails_make_rows_of_one_length() -> None:
    pictures = [Thumbnail(np.ones((8, 8)), ("x",))] * 6
    lines = list(thumbnails.plain_lines(pictures, " #"))
    assert [line.split().count("x") for line in lines if "x" in line] == [3, 3]
