"""``delegraph explain``: what it prints, writes and compares, and how it says that something is wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.cli.conftest import Call
from tests.support import require, shared_path

from delegraph.core import devices
from delegraph.partitioner.costs import CostTable
from delegraph.partitioner.placement import Placement

REAL = shared_path() / "models" / "real"
DEEPLAB = REAL / "deeplabv3_mnv2_dm05_pascal_quant.tflite"
KWS = REAL / "mlperf_kws_int8.tflite"
BOARD = ("--machine", "coral-dev-board")


@pytest.fixture(autouse=True)
def _shared() -> None:
    require("shared")


def test_deeplab_on_the_coral_board_shows_the_lever_for_numerics(delegraph: Call) -> None:
    result = delegraph("explain", DEEPLAB, *BOARD)
    lines = result.out.splitlines()
    assert result.code == 0
    assert lines[0].startswith(
        "as asked (numerics='exact'), nothing runs on nnapi:coral-dev-board; with numerics='fast'"
    )
    assert lines[1] == "predicted for coral-dev-board: 232.9 ms; the cpu alone 232.9 ms"
    assert lines[2] == "runs on: cpu 71 ops, reference 1 op"
    assert "2 segments" in lines
    start = next(i for i, line in enumerate(lines) if line.startswith("what keeps ops off the devices"))
    assert lines[start + 1].startswith("219 ms") and "numerics  71 ops: 0-70" in lines[start + 1]
    assert lines[start + 3].strip() == "-> allow other rounding: numerics='fast' (--numerics fast)"


def test_it_says_before_the_run_that_results_will_differ(delegraph: Call) -> None:
    out = delegraph("explain", DEEPLAB, *BOARD, "--numerics", "fast").out
    assert "70 ops on nnapi:coral-dev-board round otherwise: the Edge TPU rounds" in out
    assert "13.94 ms" in out.splitlines()[0] and "16.7 times" in out.splitlines()[0]


def test_what_people_read_is_short(delegraph: Call) -> None:
    """174 ops in a page, few lines wider than a terminal, and no reason twice in a column."""
    out = delegraph("explain", REAL / "ssd_mobilenet_v3_int8.tflite", "--machine", "coral-usb").out
    lines = out.splitlines()
    assert len(lines) < 30
    assert sum(len(line) > 120 for line in lines) <= 5


def test_what_is_folded_is_one_line(delegraph: Call) -> None:
    """88 constants in float16, each folded into another op."""
    out = delegraph("explain", REAL / "face_landmark.tflite", "--machine", "pixel-4", "--numerics", "fast").out
    (row,) = [line for line in out.splitlines() if line.startswith("folded")]
    assert "DEQUANTIZE x " in row and "computed ahead of the run" in row


def test_one_op(delegraph: Call) -> None:
    out = delegraph("explain", DEEPLAB, *BOARD, "--numerics", "fast", "--op", 71).out
    assert re.match(r"op 71 ARG_MAX: reference\nonly: .*reference does\n\n", out)
    blocks = {block.splitlines()[0]: block.splitlines()[1:] for block in out.split("\n\n")[1:]}
    assert list(blocks) == ["nnapi:coral-dev-board", "cpu", "reference"]
    assert dict(line.split(maxsplit=1) for line in blocks["nnapi:coral-dev-board"][:-1]) == {
        "answer": "no",
        "rule": "op_set",
        "found": "ARG_MAX",
        "limit": "the 39 ops of its profile",
        "why": "coral-dev-board has no ARG_MAX",
    }


def test_a_line_per_op_with_numbered_refusals(delegraph: Call) -> None:
    out = delegraph("explain", DEEPLAB, *BOARD, "--ops").out
    rows = [line for line in out.splitlines() if line.lstrip().startswith("0 ")]
    on_cpu = [re.split(r" {2,}", row.strip()) for row in rows if "  cpu  " in row and "_2D" in row]
    assert len(on_cpu) > 50 and {row[-1] for row in on_cpu} == {"[1]"} and len({row[-2] for row in on_cpu}) == 1
    assert out.count("may differ by 1") == 3  # what is said first, the reference, and the lever
    assert "\n[1] nnapi:coral-dev-board: the Edge TPU rounds" in out


def test_costs_of_every_op(delegraph: Call) -> None:
    out = delegraph("explain", KWS, "--machine", "pixel-3", "--numerics", "fast", "--costs").out
    (head,) = [line for line in out.splitlines() if line.startswith("graph  op  name")]
    assert "nnapi:phone-dsp" in head and "cpu" in head
    assert "nnapi:phone-dsp: launch 2 ms" in out


def test_json_is_the_document(delegraph: Call) -> None:
    value = delegraph("explain", KWS, "--machine", "ethos-u65-board", "--json", "--costs").json
    found = Placement.from_json(value)
    assert found.machine == "ethos-u65-board" and len(found.rows) == len(value["ops"])
    assert CostTable.from_json(value["costs"]).machine == "ethos-u65-board"
    assert {"device", "constraint", "saves_ns", "advice"} <= set(value["levers"][0]) if value["levers"] else True


def test_saved_files_replay_run_and_compare(delegraph: Call, tmp_path: Path) -> None:
    exact, fast, costs, again = (tmp_path / name for name in ("exact.json", "fast.json", "costs.json", "again.json"))
    assert delegraph("explain", KWS, "--machine", "coral-usb", "--save", exact).code == 0
    saving = ("--numerics", "fast", "--save", fast, "--save-costs", costs)
    result = delegraph("explain", KWS, "--machine", "coral-usb", *saving)
    assert f"note: wrote {fast}" in result.err
    assert delegraph("explain", KWS, "--costs", costs, "--numerics", "fast", "--save", again).code == 0
    assert again.read_bytes() == fast.read_bytes()
    run = ("run", KWS, "--random", "--numerics", "fast", "--placement-file", fast, "--json")
    ran = delegraph(*run)
    assert ran.code == 0
    placed = {row.device for row in Placement.read(fast).rows} - {"folded", "core"}
    assert set(ran.json["devices"]) - {"core"} == placed
    same = delegraph("explain", "--diff", fast, again)
    assert "0 of " in same.out
    assert f"{exact}: 1 segment; predicted" in delegraph("explain", "--diff", exact, exact).out
    differing = delegraph("explain", "--diff", exact, fast, "--json").json
    before, after = Placement.read(exact), Placement.read(fast)
    moved = [op for op in differing["ops"] if op["before"]["device"] != op["after"]["device"]]
    assert len(moved) == sum(a.device != b.device for a, b in zip(before.rows, after.rows, strict=True))
    assert differing["before"]["machine"] == "coral-usb"


def test_two_machines_compared(delegraph: Call, tmp_path: Path) -> None:
    names = {machine: tmp_path / f"{machine}.json" for machine in ("coral-dev-board", "ethos-u65-board")}
    for machine, path in names.items():
        delegraph("explain", DEEPLAB, "--machine", machine, "--numerics", "fast", "--save", path)
    out = delegraph("explain", "--diff", *names.values()).out
    assert "predicted for coral-dev-board" in out and "predicted for ethos-u65-board" in out
    assert "nnapi:coral-dev-board" in out and "nnapi:ethos-u65-256" in out


def test_pins_exclusions_and_energy(delegraph: Call) -> None:
    value = delegraph(
        "explain", DEEPLAB, *BOARD, "--numerics", "fast", "--objective", "energy", "--pin",
        "0-69=nnapi:coral-dev-board", "--exclude", "RESIZE_BILINEAR=nnapi:coral-dev-board", "--json",
    )  # fmt: skip
    assert value.code == 5  # a pin and an exclusion of the same op
    value = delegraph(
        "explain", DEEPLAB, *BOARD, "--numerics", "fast", "--objective", "energy", "--pin", "0-3=cpu", "--exclude",
        "70=nnapi:coral-dev-board", "--json",
    ).json  # fmt: skip
    rows = value["ops"]
    assert [row["device"] for row in rows[:4]] == ["cpu"] * 4 and rows[0]["decided_by"] == "pin"
    assert rows[70]["device"] == "cpu"
    assert value["objective"] == "energy"


def test_ops_can_be_kept_off_several_devices(delegraph: Call) -> None:
    """Each exclusion counts, also of the same ops in the same words."""
    fast = ("explain", DEEPLAB, *BOARD, "--numerics", "fast", "--json")
    off = [word for device in ("nnapi:coral-dev-board", "cpu") for word in ("--exclude", f"0-69={device}")]
    assert {row["device"] for row in delegraph(*fast, *off).json["ops"][:70]} == {"reference"}


def test_devices_of_which_the_same_is_said_share_a_rule(delegraph: Call) -> None:
    result = delegraph("explain", KWS, "--machine", "pixel-3")
    levers = delegraph("explain", KWS, "--machine", "pixel-3", "--json").json["levers"]
    alike = [lever["device"] for lever in levers if lever | {"device": ""} == levers[0] | {"device": ""}]
    assert len(alike) > 1
    assert f"{', '.join(alike)}  {levers[0]['constraint']}" in result.out


def test_a_profile_of_ones_own(delegraph: Call, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "version: 1\nmachines:\n  quick: {inherit: coral-dev-board, description: faster}\n"
        "profiles:\n  quick-coral: {inherit: coral-dev-board, machine: quick, launch_ns: 1}\n"
    )
    try:
        arguments = (DEEPLAB, "--numerics", "fast", "--devices-file", mine, "--json")
        quick = delegraph("explain", *arguments, "--machine", "quick").json
        slow = delegraph("explain", *arguments, "--machine", "coral-dev-board").json
    finally:
        devices.use(None)
    saved = slow["predictions"][0]["total_ns"] - quick["predictions"][0]["total_ns"]
    assert saved == 500_000 - 1  # the launch


def test_dump_wants_a_new_folder(delegraph: Call, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    result = delegraph("explain", KWS, "--machine", "coral-usb", "--numerics", "fast", "--dump", folder)
    assert result.code == 0 and sorted(path.suffix for path in folder.iterdir())[-1] == ".tflite"
    again = delegraph("explain", KWS, "--machine", "coral-usb", "--dump", folder)
    assert again.code == 5 and "a new or empty folder" in again.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "expected MODEL, or --diff A B"),
        ((KWS, "--diff", "a", "b"), 2, "expected MODEL, or --diff A B"),
        (("--diff", "a.json", "b.json"), 5, "a.json: expected a file, found nothing of that name"),
        ((KWS, "--machine", "moon"), 5, "machine: expected one of host, coral-usb"),
        ((KWS, "--machine", "pixel-3", "--devices", "nnapi:coral-usb"), 5, "of that machine, found nnapi:coral"),
        ((KWS, "--machine", "pixel-3", "--op", "999"), 5, "--op: expected the number of an op, up to 12, found 999"),
        ((KWS, "--machine", "pixel-3", "--pin", "999=cpu"), 5, "found none that '999' names"),
        ((KWS, "--machine", "pixel-3", "--op", "999", "--json"), 5, "--op: expected the number of an op, up to 12"),
        (("--diff", "a.json"), 2, "tip: delegraph explain --help"),
        ((KWS, "--pin", "0=cpu", "--pin", "0=reference"), 5, "--pin: expected one device for 0, found cpu and ref"),
        ((KWS, "--machine", "pixel-3", "--pin", "cpu"), 2, "expected OPS=DEVICE, found 'cpu'"),
        ((KWS, "--machine", "pixel-3", "--exclude", "0=opencl:9"), 5, "exclude: expected one of the model's devices"),
        ((KWS, "--save", "no/such.json"), 5, "--save: expected a folder that exists, found 'no'"),
        ((KWS, "--save-costs", "no/such.json"), 5, "--save-costs: expected a folder that exists, found 'no'"),
        ((KWS, "--costs", "missing.json"), 5, "missing.json: expected a file, found nothing of that name"),
        ((KWS, "--placement-file", "missing.json"), 5, "missing.json: expected a file, found nothing of that name"),
        ((KWS, "--machine", "pixel-4", "--objective", "energy", "--numerics", "fast"), 5, "objective energy: "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_a_sentence_with_a_tip(
    delegraph: Call, arguments: tuple[object, ...], code: int, message: str
) -> None:
    result = delegraph("explain", *arguments)
    assert result.code == code
    assert result.err.startswith("error: ") and message in result.err and "\n  tip: " in result.err
    assert result.out == "" or "--json" in arguments


def test_files_of_the_wrong_kind_are_named(delegraph: Call, tmp_path: Path) -> None:
    costs = tmp_path / "costs.json"
    delegraph("explain", KWS, "--machine", "coral-usb", "--save-costs", costs)
    result = delegraph("explain", KWS, "--placement-file", costs)
    assert result.code == 5 and "a document of format 'delegraph-placement', found 'delegraph-costs'" in result.err
    document = json.loads(costs.read_text())
    document["ops"][0]["devices"]["cpu"]["cost"]["time_ns"] = -1
    costs.write_text(json.dumps(document))
    result = delegraph("explain", KWS, "--costs", costs)
    assert result.code == 5 and "costs.ops[0].devices.cpu.cost.time_ns: expected a whole number" in result.err
