"""What the reader takes and refuses: each error names file, line, place, what was expected and what was found."""

from __future__ import annotations

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delegraph.core.devices.reader import read
from delegraph.core.devices.values import Devices
from delegraph.core.errors import InvalidDevices
from delegraph.core.graph.dtype import DType

BASE = """\
version: 1
machines:
  board:
    description: a board
    cpu: {name: a CPU, cores: 4, ops_per_s: {float32: 1e9}, memory_bytes_per_s: 1e9}
profiles:
  npu:
    description: an accelerator
    vendor: acme
    machine: board
    op_set: tflite
    ops_per_s: {int8: 4.0e12}
    memory_bytes_per_s: 8e9
    every_op: {dtypes: [int8], rank: 4}
    ops:
      CONV_2D DEPTHWISE_CONV_2D: {stride: 3}
      ADD: {rank: any}
"""


def _read(*texts: str) -> Devices:
    return read([(f"file{i}.yaml", textwrap.dedent(text)) for i, text in enumerate(texts)])


def test_a_profile_is_read() -> None:
    devices = _read(BASE)
    npu = devices.profiles["npu"]
    assert npu.id == "npu" and npu.machine == "board"
    assert npu.ops_per_s == {DType.INT8: 4.0e12}
    assert npu.every_op == {"dtypes": (DType.INT8,), "rank": 4}
    assert npu.ops == {"CONV_2D": {"stride": 3}, "DEPTHWISE_CONV_2D": {"stride": 3}, "ADD": {"rank": None}}
    assert devices.machines["board"].cpu is not None and devices.machines["host"].cpu is None
    assert _read("").profiles == {}


def test_later_files_win_field_by_field() -> None:
    over = """\
        version: 1
        profiles:
          npu:
            launch_ns: 7
            ops: {CONV_2D: {stride: 2}, ADD: null, SUB: {}}
          other: {inherit: npu, description: another, ops: {CONV_2D: {dilation: 1}}}
    """
    devices = _read(BASE, over)
    npu, other = devices.profiles["npu"], devices.profiles["other"]
    assert (npu.description, npu.launch_ns) == ("an accelerator", 7)
    assert npu.ops == {"CONV_2D": {"stride": 2}, "DEPTHWISE_CONV_2D": {"stride": 3}, "SUB": {}}
    assert other.launch_ns == 7 and other.ops["CONV_2D"] == {"stride": 2, "dilation": 1}
    assert npu.digest != _read(BASE).profiles["npu"].digest
    assert npu.digest != other.digest


def test_digest_ignores_comments_and_order() -> None:
    moved = BASE.replace("    vendor: acme\n", "").replace("    op_set:", "    vendor: acme # a comment\n    op_set:")
    assert _read(BASE).profiles["npu"].digest == _read(moved).profiles["npu"].digest


def test_templates_are_inherited_from_only() -> None:
    devices = _read(BASE.replace("    vendor", "    template: true\n    vendor") + "  mine: {inherit: npu}\n")
    assert set(devices.profiles) == {"mine"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("vendor: acme", "vendr: acme", "file0.yaml:9: profiles.npu.vendr: expected a known name in profiles.npu, "
         "found 'vendr'; did you mean 'vendor'?"),
        ("    vendor: acme\n", "", "file0.yaml:7: profiles.npu: expected a value for 'vendor', found none"),
        ("machine: board", "machine: bord", "file0.yaml:10: profiles.npu.machine: expected the name of a machine, "
         "found 'bord'; did you mean 'board'?"),
        ("machine: board", "machine: host", "file0.yaml:10: profiles.npu.machine: expected a machine with figures of "
         "its CPU, found 'host'"),
        ("stride: 3", "strides: 3", "file0.yaml:16: profiles.npu.ops.CONV_2D DEPTHWISE_CONV_2D.strides: expected the "
         "name of a rule, found 'strides'; did you mean 'stride'?"),
        ("stride: 3", "stride: fast", "file0.yaml:16: profiles.npu.ops.CONV_2D DEPTHWISE_CONV_2D.stride: expected a "
         "whole number of at least 1, found 'fast'"),
        ("stride: 3", "beta: 3", "the name of a rule"),
        ("rank: 4", "stride: 4", "file0.yaml:14: profiles.npu.every_op.stride: expected a rule for every op, found one "
         "for AVERAGE_POOL_2D, CONV_2D"),
        ("rank: 4", "rank: any", "a whole number of at least 1, found 'any'"),
        ("ADD: {", "ADDD: {", "file0.yaml:17: profiles.npu.ops.ADDD: expected one of "),
        ("ADD: {rank: any}", "ADD: {scaled: false}", "file0.yaml:17: profiles.npu.ops.ADD.scaled: expected true, found "
         "'false'; null takes an inherited rule away, and any a general one for an op"),
        ("int8: 4.0e12", "int8: -4", "file0.yaml:12: profiles.npu.ops_per_s.int8: expected a number above 0, found "
         "'-4'"),
        ("{int8: 4.0e12}", "{}", "file0.yaml:12: profiles.npu.ops_per_s: expected at least 1 name with a value, "
         "found none"),
        ("int8: 4.0e12", "int8: nan", "expected a number above 0, found 'nan'"),
        ("int8: 4.0e12", "int9: 4", "file0.yaml:12: profiles.npu.ops_per_s.int9: expected an element type, found "
         "'int9'; did you mean 'int8'?"),
        ("op_set: tflite", "op_set: nnapi:9", "file0.yaml:11: profiles.npu.op_set: expected tflite, or nnapi:1 to "
         "nnapi:8, found 'nnapi:9'"),
        ("description: an acc", "description: [1]\n    family: an acc", "expected a text, found a list"),
        ("version: 1", "version: 2", "file0.yaml:1: version: expected version 1, found '2'; this file is for another "
         "version of delegraph"),
        ("version: 1", "", "expected version: 1, found no version"),
        ("profiles:", "profile:", "file0.yaml:6: profile: expected a known name at the top, found 'profile'; did you "
         "mean 'profiles'?"),
        ("    vendor", "    inherit: npu\n    vendor", "file0.yaml:7: profiles.npu: expected an entry that does not "
         "inherit from itself, found npu <- npu"),
        ("    vendor", "    inherit: mpu\n    vendor", "file0.yaml:9: profiles.npu.inherit: expected the name of an "
         "entry beside it, found 'mpu'; did you mean 'npu'?"),
        ("    vendor", "    vendor: a\n    vendor", "file0.yaml:10: profiles.npu.vendor: expected each name once, "
         "found it again (line 9)"),
        ("  npu:", "  Ünü:", "file0.yaml:7: profiles.Ünü: expected a name of small letters"),
        ("{int8: 4.0e12}", "&a {int8: 1}\n    features: [*a]", "a value of its own, found an alias; use "
         "inherit: instead"),
        ("{int8: 4.0e12}", "{int8: 4.0e12", "file0.yaml:1"),
    ],
)  # fmt: skip
def test_errors_say_where_and_what(old: str, new: str, message: str) -> None:
    with pytest.raises(InvalidDevices) as caught:
        _read(BASE.replace(old, new, 1))
    assert message in str(caught.value)
    assert caught.value.source == "file0.yaml" and caught.value.line > 0


def test_cycles_of_several_are_refused() -> None:
    with pytest.raises(InvalidDevices, match="a <- b <- a"):
        _read(BASE + "  a: {inherit: b}\n  b: {inherit: a}\n")


def test_rules_of_opencl_match_names() -> None:
    devices = _read("""\
        version: 1
        opencl:
          a: {match: {vendor: 'acme.*corp', driver: '^3\\.'}, without: [fp16]}
          b: {match: {}}
    """)
    names = {"platform": "x", "vendor": "ACME Corp.", "device": "y"}
    assert [rule.id for rule in devices.opencl_rules(**names, driver="3.1")] == ["a", "b"]
    assert [rule.id for rule in devices.opencl_rules(**names, driver="13.1")] == ["b"]
    with pytest.raises(InvalidDevices, match="a regular expression"):
        _read("version: 1\nopencl: {a: {match: {vendor: '('}}}")


@pytest.mark.parametrize(
    "text", ["[" * 5000, "{a: " * 3000, "a: &x [*x]", "\0", "? [a]\n: 1", "- 1", "version: 1\nmachines: 3"]
)
def test_odd_files_are_refused(text: str) -> None:
    with pytest.raises(InvalidDevices):
        _read(text)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for content in (data, BASE.encode() + data, data.decode("latin-1")):
        try:
            read([("fuzz", content)])
        except InvalidDevices:
            continue


@given(st.integers(0, len(BASE) - 1), st.sampled_from("{}[]:,#&*-?! \n\t'\"aA0"))
def test_any_changed_character_is_read_or_refused(position: int, character: str) -> None:
    try:
        _read(BASE[:position] + character + BASE[position + 1 :])
    except InvalidDevices as exc:
        assert exc.source == "file0.yaml"
