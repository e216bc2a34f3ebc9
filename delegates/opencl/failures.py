"""What OpenCL reports as errors, as the ABI's codes. Imports core.abi; pyopencl only where it is already in use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from delegraph.core.abi.values import DelegateError, ErrorCode

# Source: CL/cl.h. -9999 is NVIDIA's "illegal access", after which its context is of no more use.
_CODES = {
    -1: ErrorCode.DEVICE_LOST,  # DEVICE_NOT_FOUND
    -2: ErrorCode.DEVICE_LOST,  # DEVICE_NOT_AVAILABLE
    -4: ErrorCode.OUT_OF_MEMORY,  # MEM_OBJECT_ALLOCATION_FAILURE
    -5: ErrorCode.OUT_OF_MEMORY,  # OUT_OF_RESOURCES
    -6: ErrorCode.OUT_OF_MEMORY,  # OUT_OF_HOST_MEMORY
    -14: ErrorCode.DEPENDENCY_FAILED,  # EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST
    -34: ErrorCode.DEVICE_LOST,  # INVALID_CONTEXT
    -36: ErrorCode.DEVICE_LOST,  # INVALID_COMMAND_QUEUE
    -61: ErrorCode.OUT_OF_MEMORY,  # INVALID_BUFFER_SIZE
    -9999: ErrorCode.DEVICE_LOST,
}


def error_code(status: int) -> ErrorCode:
    """The ABI's code for an OpenCL status below zero."""
    return _CODES.get(status, ErrorCode.INTERNAL)


@contextmanager
def mapped(device: str, doing: str) -> Iterator[None]:
    """Turns an OpenCL error raised inside into a DelegateError of this device."""
    import pyopencl as cl

    try:
        yield
    except cl.Error as exc:
        raise DelegateError(device, error_code(int(exc.code)), f"{doing}: {exc}") from exc
