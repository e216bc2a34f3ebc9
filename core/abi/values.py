"""The values that cross the delegate ABI, all immutable. Imports core up to ops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from delegraph.core.errors import DelegraphError
from delegraph.core.graph.graph import Graph
from delegraph.core.ops.opdef import Node, TensorSpec

ABI_VERSION = (0, 1)
"""(major, minor). Major 0: may change with any release."""


class ErrorCode(Enum):
    """What went wrong in a delegate, as far as core treats it differently. Since 0.1."""

    UNSUPPORTED = "unsupported"
    INVALID = "invalid"
    OUT_OF_MEMORY = "out of memory"
    DEVICE_LOST = "device lost"
    TIMEOUT = "timeout"
    ARTIFACT_REFUSED = "artifact refused"
    DEPENDENCY_FAILED = "dependency failed"
    INTERNAL = "internal"


class DelegateError(DelegraphError):
    """A delegate could not do what it was asked for. Since 0.1.

    Example: ``opencl:0: out of memory: 312 MiB for the weights of segment 2``

    Attributes: device (its id), code, message.
    """

    def __init__(self, device: str, code: ErrorCode, message: str) -> None:
        self.device, self.code, self.message = device, code, message
        super().__init__(f"{device}: {code.value}: {message}")


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What a delegate says of one device. Since 0.1.

    id: "cpu", "opencl:0", ...; unique on a machine. kind: "cpu", "gpu" or "accelerator". fingerprint: named parts
    (driver version, instruction set, ...) that decide whether an artifact fits. available: whether ``open`` can work;
    if not, reason says why and remedy what to do. is_virtual: imagined, never chosen unless named. dtypes: names of
    element types with a form on the device. may_hang: core watches its runs from another thread.
    """

    id: str
    kind: str
    vendor: str
    driver: str
    dtypes: tuple[str, ...] = ()
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    available: bool = True
    reason: str = ""
    remedy: str = ""
    is_virtual: bool = False
    may_hang: bool = False
    machine: str = "host"


class Verdict(Enum):
    """A device's answer for one op. Since 0.1. DEVIATES: it runs, with other rounding than the reference's."""

    YES = "yes"
    DEVIATES = "deviates"
    NO = "no"


@dataclass(frozen=True, slots=True)
class Support:
    """A verdict with its reason. Since 0.1. constraint: id of the rule that decided; reason: that rule as a sentence
    with what was found; advice: what to change so that the op would run (may be empty)."""

    verdict: Verdict
    constraint: str = ""
    reason: str = ""
    advice: str = ""

    @property
    def runs(self) -> bool:
        return self.verdict is not Verdict.NO


SUPPORTED = Support(Verdict.YES)


@dataclass(frozen=True, slots=True, eq=False)
class GraphView:
    """Ops that a device is asked about: nodes in execution order, with concrete shapes. Since 0.1."""

    graph: Graph
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """One piece of a graph's ops: nodes for one device, or (device "") one op that core runs itself."""

    device: str
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A convex set of ops of one graph that one device runs in one go. Since 0.1.

    nodes: in execution order. inputs: tensors that the segment reads and does not make, without constants (state that
    its ops read is among them). outputs: tensors that it has to deliver. variables: state tensors that its ops update;
    their new values are delivered behind the outputs. specs: type and concrete shape of every tensor named above, and
    the value of every constant that the nodes read.
    """

    graph: Graph
    nodes: tuple[Node, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    variables: tuple[int, ...]
    specs: Mapping[int, TensorSpec]


@dataclass(frozen=True, slots=True)
class Artifact:
    """A compiled segment as bytes. Since 0.1. format: the delegate's own name and version for the payload."""

    format: str
    payload: bytes = b""


Options = Mapping[str, Any]
"""Options of a device or a compilation: plain values by name."""
