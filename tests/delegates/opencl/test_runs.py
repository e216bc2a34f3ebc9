"""Runs: threads, events, time limits, buffers that do not fit, errors of the driver."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from tests.delegates.opencl import models
from tests.delegates.opencl.harness import Loaded, model_segment, open_device, run_reference

from delegraph.core.abi import host
from delegraph.core.abi.values import DelegateError, ErrorCode
from delegraph.core.graph.graph import Array
from delegraph.core.runtime.packs import PackStore
from delegraph.delegates.opencl.device import OpenClDevice
from delegraph.delegates.opencl.events import ClEvent, FailedEvent
from delegraph.delegates.opencl.failures import mapped

SEGMENT = model_segment(models.quantized_network())


@pytest.fixture(scope="module")
def loaded(device: OpenClDevice) -> Loaded:
    return Loaded(device, SEGMENT, PackStore(None))


def _input(seed: int) -> Array:
    return np.random.default_rng(seed).uniform(-2, 2, (2, 8, 8, 3)).astype(np.float32)


def _code(error: pytest.ExceptionInfo[DelegateError]) -> ErrorCode:
    return error.value.code


def test_contexts_run_in_parallel(loaded: Loaded) -> None:
    expected = [run_reference(SEGMENT, [_input(seed)])[0] for seed in range(4)]

    def check(seed: int) -> bool:
        return all(np.array_equal(loaded.run([_input(seed)])[0], expected[seed]) for _ in range(5))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(check, range(4))) == [True] * 4


def test_a_context_is_bound_once_and_run_often(loaded: Loaded) -> None:
    device, program = loaded.device, loaded.program
    context = program.context(device.allocate(program.scratch_bytes))
    x, y = device.allocate(_input(0).nbytes), device.allocate(10)
    context.bind([x], [y])
    found = np.empty((2, 5), np.int8)
    for seed in range(3):
        moved = device.write(_input(seed), x)
        device.read(y, found, after=[context.run(after=[moved])]).wait(60)
        assert np.array_equal(found, run_reference(SEGMENT, [_input(seed)])[0])
        copied = np.empty((2, 8, 8, 3), np.float32)
        device.read(x, copied).wait(60)
        assert np.array_equal(copied, _input(seed))  # inputs are never written


def _context(loaded: Loaded) -> Any:
    device, program = loaded.device, loaded.program
    context = program.context(device.allocate(program.scratch_bytes))
    context.bind([device.allocate(_input(0).nbytes)], [device.allocate(10)])
    return context


class Late:
    """An event that never ends by itself; ``end`` sets its status."""

    def __init__(self, device: OpenClDevice) -> None:
        self.user = device._cl.UserEvent(device._context)
        self.event = ClEvent(device._home, self.user)

    def end(self, status: int = 0) -> None:
        self.user.set_status(status)


def test_a_late_run_times_out_and_can_still_end(loaded: Loaded) -> None:
    late = Late(loaded.device)
    start = time.monotonic()
    event = _context(loaded).run(after=[late.event])
    for limit in (0.0, 0.02):
        with pytest.raises(DelegateError) as caught:
            event.wait(limit)
        assert _code(caught) is ErrorCode.TIMEOUT
    assert time.monotonic() - start < 30
    late.end()
    event.wait(60)
    event.wait()


def test_a_run_behind_a_failed_step_fails(loaded: Loaded) -> None:
    failed = FailedEvent(DelegateError("elsewhere", ErrorCode.INTERNAL, "broken"))
    for event in (
        _context(loaded).run(after=[failed]),
        loaded.device.write(_input(0), loaded.device.allocate(_input(0).nbytes), after=[failed]),
    ):
        with pytest.raises(DelegateError) as caught:
            event.wait(60)
        assert _code(caught) is ErrorCode.DEPENDENCY_FAILED


def test_events_of_others_are_waited_for(loaded: Loaded) -> None:
    _context(loaded).run(after=[host.FINISHED]).wait(60)


def test_a_run_without_time_left_is_not_started(loaded: Loaded) -> None:
    with pytest.raises(DelegateError) as caught:
        _context(loaded).run(deadline=time.monotonic() - 1).wait()
    assert _code(caught) is ErrorCode.TIMEOUT


def test_a_run_before_bind(loaded: Loaded) -> None:
    program = loaded.program
    with pytest.raises(DelegateError) as caught:
        program.context(loaded.device.allocate(program.scratch_bytes)).run()
    assert _code(caught) is ErrorCode.INVALID


def test_memory_that_does_not_fit(loaded: Loaded) -> None:
    device, context = loaded.device, _context(loaded)
    good, small = device.allocate(_input(0).nbytes), device.allocate(3)
    for inputs, outputs in (([small], [device.allocate(10)]), ([good], [small]), ([host.allocate(2000)], [good])):
        with pytest.raises(DelegateError) as caught:
            context.bind(inputs, outputs)
        assert _code(caught) is ErrorCode.INVALID
    with pytest.raises(DelegateError) as caught:
        device.write(_input(0), small)
    assert _code(caught) is ErrorCode.INVALID
    with pytest.raises(DelegateError) as caught:
        device.read(good, np.empty((4, 4), np.float32).T[::2])
    assert _code(caught) is ErrorCode.INVALID


def test_memory_of_no_bytes(device: OpenClDevice) -> None:
    buffer = device.allocate(0)
    assert buffer.size_bytes == 0
    device.write(np.empty(0, np.float32), buffer).wait()
    device.read(buffer, np.empty(0, np.float32)).wait()


def test_more_memory_than_there_is(device: OpenClDevice) -> None:
    with pytest.raises(DelegateError) as caught:
        device.allocate(1 << 50)
    assert _code(caught) is ErrorCode.OUT_OF_MEMORY


class Ended:
    """What pyopencl's event looks like once the command has ended."""

    def __init__(self, status: int) -> None:
        self.command_execution_status = status


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (-5, ErrorCode.OUT_OF_MEMORY),
        (-4, ErrorCode.OUT_OF_MEMORY),
        (-2, ErrorCode.DEVICE_LOST),
        (-36, ErrorCode.DEVICE_LOST),
        (-14, ErrorCode.DEPENDENCY_FAILED),
        (-38, ErrorCode.INTERNAL),
    ],
)
def test_status_of_a_failed_command(status: int, code: ErrorCode, device: OpenClDevice) -> None:
    with pytest.raises(DelegateError) as caught:
        ClEvent(device._home, Ended(status)).wait(1.0)
    assert _code(caught) is code and str(status) in caught.value.message


def test_errors_of_the_driver_are_mapped(device: OpenClDevice) -> None:
    cl = device._cl
    with pytest.raises(DelegateError) as caught, mapped("opencl:0", "build"):
        cl.Program(device._context, "no kernel").build(cache_dir=False)
    assert _code(caught) is ErrorCode.INTERNAL and caught.value.message.startswith("build: ")


def test_a_device_that_is_opened_again_takes_nothing_of_the_first(loaded: Loaded) -> None:
    again = open_device()
    program = Loaded(again, SEGMENT, PackStore(None)).program
    with pytest.raises(DelegateError) as caught:
        program.context(loaded.device.allocate(program.scratch_bytes))
    assert _code(caught) is ErrorCode.INVALID
    buffer = again.allocate(4)
    moved = loaded.device.write(np.zeros(1, np.float32), loaded.device.allocate(4))
    again.write(np.zeros(1, np.float32), buffer, after=[moved]).wait(60)  # waits on the host for the other's event
    program.close()
    again.close()
    loaded.run([_input(0)])
