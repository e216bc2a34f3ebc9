"""Measured peaks: plausible, of what the device takes, and kept for as long as the device is the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from tests.support_devices import EchoDelegate

from delegraph.core.abi.protocols import Device
from delegraph.core.abi.values import DelegateError, ErrorCode, GraphView, Link, Support, Verdict
from delegraph.core.devices import calibration
from delegraph.core.devices.calibration import Peaks, calibrated, key_of, measure
from delegraph.core.graph.dtype import DType
from delegraph.core.ops.opdef import Node
from delegraph.core.runtime.packs import PackStore
from delegraph.delegates.reference import ReferenceDelegate


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes for which the figures mean nothing and the test takes no time."""
    monkeypatch.setattr(calibration, "CONV_SIZE", 4)
    monkeypatch.setattr(calibration, "CONV_DEPTH", 8)
    monkeypatch.setattr(calibration, "STREAM_ELEMENTS", 64)
    monkeypatch.setattr(calibration, "TRANSFER_BYTES", 4096)


def reference() -> Device:
    return ReferenceDelegate().open("reference", {})


def test_the_peaks_of_the_reference_device() -> None:
    peaks = measure(reference(), PackStore(None), budget_s=0.01)
    assert set(peaks.ops_per_s) == {DType.FLOAT32, DType.INT8}
    assert all(np.isfinite(rate) and rate > 0 for rate in peaks.ops_per_s.values())
    assert peaks.memory_bytes_per_s > 0 and peaks.launch_ns > 0
    assert (peaks.to_device, peaks.from_device) == (Link(), Link())


def test_figures_follow_the_clock() -> None:
    """With a clock that moves 0.25 s at each look, each run takes that long."""
    ticks = count()
    peaks = measure(reference(), PackStore(None), budget_s=0.0, clock=lambda: next(ticks) * 0.25)
    assert peaks.ops_per_s == {DType.FLOAT32: 2 * 4 * 4 * 8 * 8 / 0.25, DType.INT8: 2 * 4 * 4 * 8 * 8 / 0.25}
    assert peaks.memory_bytes_per_s == 3 * 4 * 64 / 0.25
    assert peaks.launch_ns == 250_000_000


def test_memory_of_its_own_has_links() -> None:
    device = EchoDelegate("far", lambda node: True, apart=True, memory_domain="echo:far").open("echo:far", {})
    peaks = measure(device, PackStore(None), budget_s=0.01)
    for link in (peaks.to_device, peaks.from_device):
        assert link.latency_ns > 0 and link.bytes_per_s > 0


def test_what_a_device_refuses_is_left_out() -> None:
    def takes(node: Node) -> bool:
        return node.op.name == "CONV_2D" and node.input(0).dtype is DType.FLOAT32

    peaks = measure(EchoDelegate("few", takes).open("echo:few", {}), PackStore(None), budget_s=0.01)
    assert set(peaks.ops_per_s) == {DType.FLOAT32}
    assert peaks.memory_bytes_per_s == 0 and peaks.launch_ns == 0


def test_a_device_that_fails_is_an_error() -> None:
    class Broken(type(reference())):  # type: ignore[misc]
        def compile(self, *_: object, **__: object) -> object:
            raise DelegateError("reference", ErrorCode.DEVICE_LOST, "gone")

        def supports(self, view: GraphView) -> Sequence[Support]:
            return [Support(Verdict.YES)] * len(view.nodes)

    with pytest.raises(DelegateError, match="gone"):
        measure(Broken(), PackStore(None))


def test_peaks_are_kept_for_the_same_device() -> None:
    kept: dict[tuple[tuple[str, str], ...], bytes] = {}
    device, packs, ticks = reference(), PackStore(None), count()

    def get(key: Mapping[str, str]) -> bytes | None:
        return kept.get(tuple(sorted(key.items())))

    def put(key: Mapping[str, str], data: bytes) -> None:
        kept[tuple(sorted(key.items()))] = data

    def peaks() -> Peaks:
        return calibrated(device, packs, get, put, budget_s=0.0, clock=lambda: next(ticks) * 0.25)

    first, looks = peaks(), next(ticks)
    assert peaks() == first and next(ticks) == looks + 1  # the clock was not asked again
    device.info = replace(device.info, driver="another")
    assert peaks() == first and next(ticks) > looks + 10
    assert len(kept) == 2
    whole = json.dumps(first.to_json())
    odd = [
        whole.replace(f'"launch_ns": {first.launch_ns}', f'"launch_ns": {figure}').encode()
        for figure in ("-1", "1e400", "Infinity", "NaN", 100_000 * "[" + 100_000 * "]")
    ]
    assert whole.encode() not in odd
    for damaged in (b"", b"{}", b"[]", b"\xff", b'{"ops_per_s": 1, "to_device": {}}', json.dumps(None).encode(), *odd):
        put(key_of(device.info), damaged)
        looks = next(ticks)
        assert peaks() == first and next(ticks) > looks + 10


def test_peaks_as_json_and_back() -> None:
    peaks = Peaks({DType.INT8: 2.5e9}, 1e10, 7, Link(1, 2), Link(3, 4))
    assert Peaks.from_json(json.loads(json.dumps(peaks.to_json()))) == peaks
