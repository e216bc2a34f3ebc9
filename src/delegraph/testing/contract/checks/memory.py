"""Buffers: allocate(), import_host(), write() and read()."""

from __future__ import annotations

import numpy as np

from delegraph.core.abi.protocols import Buffer, Device
from delegraph.core.abi.values import DelegateError, ErrorCode
from delegraph.core.graph.graph import Array
from delegraph.testing.contract.check import check
from delegraph.testing.contract.execution import pattern_bytes, wait
from delegraph.testing.contract.finding import expect, fail, skip
from delegraph.testing.contract.subject import Subject

SIZES = (0, 1, 3, 64, 1000, 4097)
ALIGNMENTS = (1, 64, 4096)
TOO_MUCH_BYTES = 1 << 60


def put(device: Device, buffer: Buffer, data: Array) -> None:
    view = buffer.host_view()
    if view is None:
        wait(device.write(data, buffer))
    else:
        view[: data.size] = data


def take(device: Device, buffer: Buffer, size_bytes: int) -> Array:
    view = buffer.host_view()
    if view is not None:
        return view[:size_bytes].copy()
    found = np.zeros(size_bytes, np.uint8)
    wait(device.read(buffer, found))
    return found


@check("memory.round_trip", "What is written to a buffer is what is read from it, at any size from 0 bytes on.")
def round_trip(subject: Subject) -> None:
    device = subject.device
    for size in SIZES:
        buffer = device.allocate(size)
        data = pattern_bytes(size % 251, size)
        put(device, buffer, data)
        found = take(device, buffer, size)
        expect(found.tobytes() == data.tobytes(), f"{size} bytes were written, and others read")


@check("memory.size", "allocate() gives at least the bytes that were asked for; a host view is uint8 and as long.")
def size(subject: Subject) -> None:
    for n_bytes in SIZES:
        buffer = subject.device.allocate(n_bytes)
        expect(buffer.size_bytes >= n_bytes, f"{n_bytes} bytes asked for, size_bytes is {buffer.size_bytes}")
        view = buffer.host_view()
        if view is not None:
            expect(view.dtype == np.uint8 and view.ndim == 1, f"the host view is {view.dtype} of rank {view.ndim}")
            expect(view.size >= n_bytes, f"{n_bytes} bytes asked for, the host view has {view.size}")


@check("memory.aligned", "allocate() gives memory at a multiple of the alignment that was asked for.")
def aligned(subject: Subject) -> None:
    for alignment in ALIGNMENTS:
        kept = [subject.device.allocate(n, alignment) for n in (1, 100, 5000)]
        for buffer in kept:
            view = buffer.host_view()
            if view is None:
                skip("the host can't see where the device's memory lies")
            address = view.ctypes.data
            expect(address % alignment == 0, f"asked for {alignment}, the address is {address % alignment} above one")


@check("memory.apart", "Buffers don't overlap: writing one leaves the others as they were.")
def apart(subject: Subject) -> None:
    device = subject.device
    buffers = [device.allocate(300) for _ in range(6)]
    for i, buffer in enumerate(buffers):
        put(device, buffer, pattern_bytes(i * 31, 300))
    for i, buffer in enumerate(buffers):
        same = take(device, buffer, 300).tobytes() == pattern_bytes(i * 31, 300).tobytes()
        expect(same, f"buffer {i} of 6 changed when the others were written")


@check(
    "memory.import_host",
    "import_host() gives a buffer over the array itself; a device in the host's memory domain can do it.",
)
def import_host(subject: Subject) -> None:
    device, info = subject.device, subject.device.info
    memory = pattern_bytes(5, 777)
    buffer = device.import_host(memory)
    if buffer is None:
        bound = info.memory_domain == "host" and not info.may_hang
        expect(not bound, "None, though its memory is the host's and it is not watched: core binds arrays there")
        skip("the device does not bind the host's memory")
    expect(buffer.size_bytes == memory.size, f"an array of 777 bytes became a buffer of {buffer.size_bytes}")
    memory[:] = pattern_bytes(99, 777)
    found = take(device, buffer, 777)
    expect(found.tobytes() == memory.tobytes(), "the array was changed, and the buffer does not show it: it is a copy")
    empty = device.import_host(np.empty((0, 3), np.float32))
    expect(empty is not None, "an empty array gives None")


@check("memory.strided_write", "write() and read() take arrays of any type and shape, and leave the source as it is.")
def strided_write(subject: Subject) -> None:
    device = subject.device
    source = np.arange(30, dtype=np.float32).reshape(5, 6)
    before = source.tobytes()
    buffer = device.allocate(source.nbytes)
    if buffer.host_view() is not None:
        skip("the host can see the device's memory: core writes there itself")
    wait(device.write(source, buffer))
    target = np.zeros((5, 6), np.float32)
    wait(device.read(buffer, target))
    expect(source.tobytes() == before, "write() changed its source")
    expect(target.tobytes() == before, "a float32 array came back changed")


@check("memory.too_much", "allocate() of more memory than there is fails with OUT_OF_MEMORY (or Python's MemoryError).")
def too_much(subject: Subject) -> None:
    device = subject.device
    try:
        device.allocate(TOO_MUCH_BYTES)
    except MemoryError:
        return
    except DelegateError as exc:
        expect(exc.code is ErrorCode.OUT_OF_MEMORY, f"it failed with {exc.code.name}: {exc}")
        return
    except Exception as exc:
        fail(f"it raised {type(exc).__name__}: {exc}")
    fail(f"it gave {TOO_MUCH_BYTES >> 50} PiB")
