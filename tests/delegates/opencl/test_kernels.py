"""Every lowering against the reference, on the cases of its OpDef: integers equal, floats within the op's bound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from tests.delegates.opencl.harness import case_segment, joined, run_opencl, run_reference, supports

from delegraph.core.abi.values import Segment
from delegraph.core.errors import DelegraphError
from delegraph.core.graph.graph import Array
from delegraph.core.ops import registry
from delegraph.core.ops.opdef import Case, OpDef
from delegraph.delegates.opencl.device import OpenClDevice
from delegraph.delegates.opencl.kernels import LOWERINGS, lowerings_of
from delegraph.testing.conformance import compare

OPS = list(dict.fromkeys(lowering.op for lowering in LOWERINGS))
BATCH = 64
"""Cases in one segment, so that one program is built for all of them."""

Trial = tuple[Case, Segment, list[Array], list[Array]]


def _op(name: str) -> OpDef:
    found = registry.find(name)
    assert found is not None and found.cases is not None
    return found


def _trials(op: OpDef, device: OpenClDevice, seed: int) -> Iterator[Trial]:
    """(case, segment, inputs, expected outputs) of the cases that the device takes."""
    assert op.cases is not None
    for case in op.cases(np.random.default_rng(seed)):
        segment = case_segment(op, case)
        if segment is None or not supports(device, segment)[0].runs:
            continue
        data = [o.data for o in case.inputs if o is not None and not o.constant]
        values = dict(zip(segment.graph.inputs, data, strict=True))
        inputs = [values[i] for i in segment.inputs]
        try:
            yield case, segment, inputs, run_reference(segment, inputs)
        except DelegraphError:
            pytest.fail(f"{op.name}:{case.name}: the reference refuses what the device takes")


def _check(op: OpDef, device: OpenClDevice, seed: int) -> int:
    trials = list(_trials(op, device, seed))
    for start in range(0, len(trials), BATCH):
        batch = trials[start : start + BATCH]
        found = run_opencl(device, joined([t[1] for t in batch]), [x for t in batch for x in t[2]])
        for (case, segment, _, expected), y in zip(batch, found, strict=True):
            operands = [None if o is None else o.data for o in case.inputs]
            verdict = compare(op, case.name, segment.nodes[0], operands, expected, [y])
            assert verdict.outcome == "same", f"seed {seed}, {op.name}:{case.name}: {verdict.detail}"
    return len(trials)


@pytest.mark.parametrize("name", OPS)
def test_op_agrees_with_the_reference(name: str, device: OpenClDevice) -> None:
    assert _check(_op(name), device, 0), "no case was run"


DIVIDES = ("DIV", "SQRT", "RSQRT", "HARD_SWISH", "AVERAGE_POOL_2D", "L2_POOL_2D", "MEAN", "SOFTMAX", "QUANTIZE")


@pytest.mark.parametrize("name", DIVIDES)
def test_division_through_doubles_is_as_exact(name: str, device: OpenClDevice) -> None:
    """On a device that can't round float32 division correctly."""
    assert _check(_op(name), _other(device, rounded_division=False), 0), "no case was run"


@pytest.mark.parametrize("name", (*DIVIDES, "TANH", "ELU", "SIN", "COS"))
def test_a_device_without_doubles_builds_every_kernel(name: str, device: OpenClDevice) -> None:
    bare = _other(device, rounded_division=False, fp64=False)
    batch = list(_trials(_op(name), bare, 0))[:BATCH]
    found = run_opencl(bare, joined([t[1] for t in batch]), [x for t in batch for x in t[2]])
    for (case, _, _, (expected,)), y in zip(batch, found, strict=True):
        usual = np.isfinite(expected)  # at infinity a small error of tanh makes a large one
        np.testing.assert_allclose(y[usual], expected[usual], rtol=1e-5, atol=1e-6, err_msg=case.name)


def _other(device: OpenClDevice, **traits: bool) -> OpenClDevice:
    """The device as one that can do less."""
    if not device.traits.fp64:
        pytest.skip("needs an OpenCL device with doubles")
    return OpenClDevice(device.info, replace(device.traits, **traits))  # type: ignore[arg-type]


@pytest.mark.by_hand
@pytest.mark.parametrize("name", OPS)
def test_op_agrees_with_the_reference_at_length(name: str, device: OpenClDevice) -> None:
    for seed in range(1, 6):
        _check(_op(name), device, seed)


@pytest.mark.parametrize("name", OPS)
def test_every_lowering_is_reached_by_a_case(name: str, device: OpenClDevice) -> None:
    """Kernels that no case reaches are not tested."""
    left = list(lowerings_of(name))
    for seed in range(3):
        for case in registry.find(name).cases(np.random.default_rng(seed)):  # type: ignore[union-attr, misc]
            segment = case_segment(_op(name), case)
            if segment is not None and supports(device, segment)[0].runs:
                left = [lowering for lowering in left if not lowering.takes(segment.nodes[0])]
    assert [lowering.types for lowering in left] == []
