"""The shipped devices.yaml: figures with sources, op sets as published, models as slow as measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.devices.nodes import node, spec
from tests.support import shared_path

from delegraph.core.devices import load, locate, op_sets
from delegraph.core.devices.capability import Capability
from delegraph.core.devices.rules import RULES
from delegraph.core.devices.values import Profile
from delegraph.core.graph.dtype import DType
from delegraph.core.ops import registry

LINES = Path(locate.SHIPPED).read_text().splitlines()


def test_every_figure_names_a_source() -> None:
    """A figure has a comment on its line; those of NNAPI's sample drivers have one above them for all."""
    figure = re.compile(
        r"^\s+(?!max_segments|feature_level)[a-z0-9_]*(_s|_ns|_bytes|int8|float32|energy|cores|default): [{\d].*\d?"
    )
    section = ""
    silent = []
    for number, line in enumerate(LINES, 1):
        if line.startswith("  # ---"):
            section = line
        if figure.match(line) and "#" not in line and "sample drivers" not in section:
            silent.append((number, line))
    assert silent == []


def test_profiles_of_the_design_are_there() -> None:
    wanted = {
        "sample-all", "sample-quant", "sample-float-fast", "sample-float-slow", "sample-minimal", "coral-usb",
        "coral-dev-board", "ethos-u55-128", "ethos-u65-256", "phone-gpu", "phone-dsp",
    }  # fmt: skip
    devices = load()
    assert wanted <= set(devices.profiles)
    assert all(devices.machines[p.machine].cpu is not None for p in devices.profiles.values())


@pytest.mark.parametrize("profile", load().profiles.values(), ids=lambda p: p.id)
def test_profiles_are_whole(profile: Profile) -> None:
    capability = Capability(profile)
    known = {op.name for op in registry.all_ops()}
    assert capability.ops and set(capability.ops) <= known
    rated = {DType.INT32, DType.BOOL}
    assert set(profile.dtypes) <= set(profile.ops_per_s) | rated
    assert set(profile.numerics) <= set(profile.dtypes)
    for op in known - set(capability.ops):
        assert capability.constraints(op) is None
        assert capability.missing(op).reason


def test_nnapi_ops_and_their_levels() -> None:
    """Against the table of the NNAPI sources, where it is at hand."""
    table = shared_path() / "conformance" / "nnapi" / "tables.json"
    if not table.is_file():
        pytest.skip("needs shared")
    operations = json.loads(table.read_text())["operations"]
    codes = {
        "TENSOR_FLOAT32": DType.FLOAT32, "TENSOR_INT32": DType.INT32, "TENSOR_QUANT8_ASYMM": DType.UINT8,
        "TENSOR_QUANT8_ASYMM_SIGNED": DType.INT8, "TENSOR_BOOL8": DType.BOOL,
    }  # fmt: skip
    composed = {"HARD_SWISH", "PACK", "SPLIT_V", "PAD"}  # at low levels TFLite's delegate builds them of others
    widened = {"QUANTIZE": {DType.UINT8, DType.INT8}}  # by a DEQUANTIZE before it
    for name, entry in op_sets.OPS.items():
        for operation in entry.operation.split("+"):
            assert operation in operations, name
        if "+" in entry.operation or name in composed:
            continue
        published = {codes[t]: level for t, level in operations[entry.operation]["types"].items() if t in codes}
        for level in op_sets.LEVELS:
            extra = set(entry.dtypes(level)) - {t for t, since in published.items() if since <= level}
            assert extra <= widened.get(name, set()), (name, level, extra)


def test_levels_add_ops_and_never_take_any() -> None:
    before: set[str] = set()
    for level in op_sets.LEVELS:
        now = {name for name, op in op_sets.OPS.items() if op.level <= level}
        assert before <= now
        before = now
    assert before == set(op_sets.OPS)


def test_limits_lift_with_the_level() -> None:
    op = node("CONV_2D", dilation_h_factor=2, dilation_w_factor=2)
    broken = {
        level: [rule for rule, limit in op_sets.OPS["CONV_2D"].limits(level).items() if RULES[rule].test(op, limit)]
        for level in op_sets.LEVELS
    }
    assert broken[1] == ["dtypes", "dilation"]
    assert broken[3] == ["dtypes"]
    assert broken[4] == []


def test_all_rules_are_in_use() -> None:
    used = set()
    for profile in load().profiles.values():
        for limits in (profile.every_op, *profile.ops.values()):
            used |= set(limits)
    for op in op_sets.OPS.values():
        used |= set(op.limits(1)) | set(op.limits(8))
    assert used <= set(RULES)


def test_an_op_past_several_limits_names_them_all() -> None:
    found = Capability(load().profiles["ethos-u55-128"]).broken(
        node("DEPTHWISE_CONV_2D", spec((2, 4, 4, 2)), stride_h=4)
    )
    assert [each.constraint.id for each in found] == ["batch", "stride"]
    assert found[1].reason == "strides are at most 3, found 4x1"
