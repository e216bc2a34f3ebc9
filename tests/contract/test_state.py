"""state.delivered, with an op of our own that has a variable: no op of the table that a delegate runs has one yet."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tests.contract.sound import SoundContext, SoundDelegate, SoundDevice, SoundProgram, bytes_of

from delegraph.core.abi.protocols import Buffer, Context, Device
from delegraph.core.abi.values import Options
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Shape
from delegraph.core.ops import bounds, registry
from delegraph.core.ops.opdef import Case, Form, Kernel, Node, OpDef, Operand, Result
from delegraph.testing.contract import cases, run


def _shapes(node: Node) -> list[Shape]:
    return [node.input(0).shape]


def _prepare(node: Node) -> Kernel:
    def kernel(x: Array, state: Array) -> tuple[Array, Array]:
        return state + x, state + x

    return kernel


def _cases(rng: np.random.Generator) -> Iterator[Case]:
    values = rng.normal(size=(2, 4)).astype(np.float32)
    yield Case("plain", (Operand(values[0]), Operand(values[1])), (Result(DType.FLOAT32),))


ACCUMULATE = OpDef(
    name="ContractAccumulate",
    inputs=("x", "state"),
    outputs=("sum",),
    shapes=_shapes,
    forms=(Form("float32, float32 -> float32", _prepare),),
    options="",
    bound=bounds.exact,
    variables=(1,),
    is_custom=True,
    cases=_cases,
)


@pytest.fixture(autouse=True)
def _accumulate(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    registry.find("ADD")
    monkeypatch.setitem(registry._ops, ACCUMULATE.name, ACCUMULATE)
    _forget()
    yield
    _forget()


def _forget() -> None:
    cases.pieces.cache_clear()
    cases.everything.cache_clear()


class WritesTheState(SoundDelegate):
    """Updates the variable where it lies, as if it were its own."""

    def open(self, device_id: str, options: Options, host: Device | None = None) -> Device:
        return _Device()


class _Device(SoundDevice):
    def program(self, *arguments):  # type: ignore[no-untyped-def]
        segment, packs, factor = arguments
        return _Program(self.inner_program(segment), packs, factor)


class _Program(SoundProgram):
    def context(self, scratch: Buffer) -> Context:
        return _Context(self, scratch)


class _Context(SoundContext):
    def compute(self) -> None:
        super().compute()
        segment = self.program.inner.segment
        for position, variable in enumerate(segment.variables):
            new = bytes_of(self.outputs[len(segment.outputs) + position])
            bytes_of(self.inputs[segment.inputs.index(variable)])[:] = new


@pytest.mark.parametrize(("delegate", "outcome"), [(SoundDelegate(), "passed"), (WritesTheState(), "failed")])
def test_state_is_cores(delegate: SoundDelegate, outcome: str) -> None:
    (finding,) = run(delegate, only=["state.delivered"])
    assert finding.outcome == outcome, finding.found
    if outcome == "failed":
        assert "wrote to the bound state" in finding.found
