"""What is printed in a terminal's width: names stay whole, columns without a value go, texts fold between words."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import Call
from tests.support import require, shared_path

from delegraph.cli import layout, render

REAL = shared_path() / "models" / "real"
IDS = ("cpu", "nnapi:sample-float-xnnpack", "reference")
WHY = "a sentence of several words that says why"


def shown(heads: tuple[str, ...], rows: list[tuple[str, ...]], width: int, right: tuple[str, ...] = ()) -> list[str]:
    head, lines = layout.table_lines(heads, [[(cell,) for cell in row] for row in rows], right, width)
    return [*head, *lines]


def test_a_table_that_fits_is_one_row_a_line() -> None:
    assert shown(("id", "n", "why"), [("cpu", "3", "so"), ("opencl:0", "12", "-")], 30, ("n",)) == [
        "id         n  why",
        "cpu        3  so",
        "opencl:0  12  -",
    ]


def test_columns_without_a_value_are_left_out() -> None:
    assert shown(("id", "why"), [("cpu", "-"), ("reference", "-")], 30) == ["id", "cpu", "reference"]
    assert shown(("id",), [("-",)], 30) == ["id", "-"]


def test_the_widest_column_folds_between_words() -> None:
    assert shown(("id", "why"), [("nnapi:coral-usb", "it has no such op"), ("cpu", "-")], 28) == [
        "id               why",
        "nnapi:coral-usb  it has no",
        "                 such op",
        "cpu              -",
    ]


def test_a_column_that_gets_too_narrow_goes_below() -> None:
    assert shown(("id", "n", "why"), [(name, "12.5 ms", WHY) for name in IDS[:2]], 40, ("n",)) == [
        "id                                n",
        "cpu                         12.5 ms",
        "    why: a sentence of several words",
        "         that says why",
        "nnapi:sample-float-xnnpack  12.5 ms",
        "    why: a sentence of several words",
        "         that says why",
    ]


def test_parts_of_a_cell_have_lines_of_their_own() -> None:
    rows = [[("CONV_2D",), ("at most 4 dimensions", "there is a bias")]]
    assert layout.table_lines(("op", "limits"), rows, (), 40)[1] == [
        "CONV_2D  at most 4 dimensions",
        "         there is a bias",
    ]
    assert layout.table_lines(("op", "limits"), rows, (), 14)[1][:3] == [
        "CONV_2D",
        "    limits: at",
        "            most",
    ]


def test_a_word_wider_than_the_terminal_stays_whole() -> None:
    name = "a/very/long/name" * 5
    assert shown(("n", "name"), [("1", name)], 30) == ["n", "1", f"    name: {name}"]
    assert layout.folded(f"see {name} there", 30) == ["see", name, "there"]


def test_wide_characters_count_twice() -> None:
    assert shown(("label", "n"), [("猫", "1"), ("cat", "2")], 30) == ["label  n", "猫     1", "cat    2"]


COMMANDS = (
    "devices",
    "devices nnapi",
    "ops CONV_2D",
    "explain deeplabv3_mnv2_dm05_pascal_quant.tflite --machine coral-dev-board --numerics fast",
    "explain deeplabv3_mnv2_dm05_pascal_quant.tflite --machine coral-dev-board --op 0 --op 71",
    "explain deeplabv3_mnv2_dm05_pascal_quant.tflite --machine coral-dev-board --ops",
    "explain mlperf_kws_int8.tflite --machine pixel-3 --costs",
    "inspect mobilenet_v2_1.0_224_quant.tflite --ops",
    "inspect person_detect_vela.tflite",
    "run sdpa_composite.tflite --random --placement",
)
SLOW = ("ops", "check-delegate null --only event.complete")


@pytest.mark.parametrize(
    ("width", "arguments"), [*((w, c) for w in (80, 100, 120) for c in COMMANDS), *((80, c) for c in SLOW)]
)
def test_everything_fits_and_no_name_is_broken(
    delegraph: Call, width: int, arguments: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("shared")
    monkeypatch.chdir(REAL)
    piped = delegraph(*arguments.split())
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(render, "is_terminal", lambda: True)
    shown = delegraph(*arguments.split())
    assert (piped.code, shown.code) == (0, 0), shown.err
    long = [line for line in shown.out.splitlines() if len(line) > width]
    assert [line for line in long if "fingerprint" not in line] == []  # one word that is nearly as wide
    names = {word.strip(",;") for word in piped.out.split() if ":" in word or "_" in word}
    assert {name for name in names if name not in shown.out} == set()


@pytest.mark.parametrize("arguments", ["ops CONV_2D", "ops --device nnapi:coral-usb"])
def test_piped_rows_are_lines_that_stand_alone(delegraph: Call, arguments: str) -> None:
    _, *rows = delegraph(*arguments.split()).out.splitlines()
    assert rows and all(row[0].isalpha() for row in rows)


def test_the_columns_of_a_pipe_are_always_the_same(delegraph: Call) -> None:
    assert delegraph("devices").out.splitlines()[0].endswith("why not, and what to do")


def test_rates_have_three_digits_and_no_exponent() -> None:
    found = [render.rate(n) for n in (4e12, 39.87e9, 4.2e9, 123e6, 1e6, 0)]
    assert found == ["4000 G", "39.9 G", "4.20 G", "0.123 G", "0.00100 G", "0 G"]
    assert [render.counted(n, "op") for n in (0, 1, 2)] == ["0 ops", "1 op", "2 ops"]


def test_ops_in_a_row_of_which_the_same_is_said_share_a_row(delegraph: Call) -> None:
    require("shared")
    model = Path(REAL / "mobilenet_v2_1.0_224_quant.tflite")
    out = delegraph("run", model, "--random", "--devices", "reference", "--placement").out
    (row,) = [line for line in out.splitlines() if " reference " in line and "CONV_2D" in line]
    assert row.split()[:2] == ["0", "0-65"]
