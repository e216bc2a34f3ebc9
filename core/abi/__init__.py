"""The delegate ABI, version 0: the protocols between delegraph and any delegate. Imports core up to ops."""

from delegraph.core.abi.protocols import Buffer, Context, Delegate, Device, Event, Program
from delegraph.core.abi.values import (
    ABI_VERSION,
    Artifact,
    DelegateError,
    DeviceInfo,
    ErrorCode,
    GraphView,
    Segment,
    Support,
    Verdict,
)

__all__ = [
    "ABI_VERSION",
    "Artifact",
    "Buffer",
    "Context",
    "Delegate",
    "DelegateError",
    "Device",
    "DeviceInfo",
    "ErrorCode",
    "Event",
    "GraphView",
    "Program",
    "Segment",
    "Support",
    "Verdict",
]
