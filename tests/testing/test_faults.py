"""The wrapper that injects faults is seen through: a device under it is asked and priced as it is without it."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from tests.runtime.test_fallback import X, chain, check, everything
from tests.support import require, shared_path
from tests.support_devices import EchoDelegate, registered

import delegraph as dg
from delegraph import registry
from delegraph.core.abi.protocols import Context, Device, Program
from delegraph.testing import faults


def names_of(protocol: type) -> set[str]:
    """What a protocol says there is: its methods and its attributes."""
    return {name for name in {**vars(protocol), **inspect.get_annotations(protocol)} if not name.startswith("_")}


class Named:
    """Has whatever it is asked for: the name itself."""

    def __getattr__(self, name: str) -> Any:
        return name


@pytest.mark.parametrize(
    ("protocol", "wrapper"),
    [(Device, faults._Device), (Program, faults._Program), (Context, faults._Context)],
    ids=["device", "program", "context"],
)
def test_everything_of_a_protocol_is_passed_on(protocol: type, wrapper: Any) -> None:
    """Or the wrapper says what becomes of it: a default of the protocol must not stand in for the device's own."""
    wrapped = wrapper(Named(), faults.Faults(()))
    passed = {name for name in names_of(protocol) if getattr(wrapped, name) == name}
    assert passed | vars(wrapper).keys() >= names_of(protocol)
    assert len(passed) >= 1


def test_a_device_is_priced_under_a_fault_as_without() -> None:
    info = registry.device("nnapi:coral-dev-board")
    slot = registry.slot(info)
    without = slot.estimates_segments
    with faults.inject(info.id):
        assert slot.estimates_segments is without is True
    with registered(EchoDelegate("it", everything)):
        slot = registry.slot(registry.device("echo:it"))
        with faults.inject("echo:it"):
            assert slot.estimates_segments is False


def test_a_device_is_closed_behind_a_fault() -> None:
    closed = []

    class Closing(EchoDelegate):
        def open(self, *args, **kwargs):  # type: ignore[no-untyped-def]
            found = super().open(*args, **kwargs)
            found.close = lambda: closed.append(1)  # type: ignore[method-assign]
            return found

    with registered(Closing("it", everything)), faults.inject("echo:it"):
        check(dg.compile(chain(), devices=["echo:it"])(X))
        assert not closed
    assert closed == [1]


def test_a_fault_strikes_an_emulated_device_with_limits() -> None:
    require("shared")
    device, path = "nnapi:coral-dev-board", shared_path() / "models" / "real" / "mobilenet_v1_0.25_128_quant.tflite"
    with faults.inject(device, faults.FailRun()) as state:
        compiled = dg.compile(path, devices=[device, "cpu"], numerics="fast")
        assert device in {row.device for row in compiled.placement.rows}
        compiled(*(np.zeros([max(1, n) for n in info.shape], info.dtype.numpy) for info in compiled.inputs))
        assert [type(fault) for fault in state.struck] == [faults.FailRun]
        assert [(event.moment, event.device) for event in compiled.receipt().events] == [("run", device)]
