"""The values that cross the delegate ABI, all immutable. Imports core up to ops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from delegraph.core.errors import DelegraphError
from delegraph.core.graph.graph import Graph
from delegraph.core.ops.opdef import Node, TensorSpec

ABI_VERSION = (0, 2)
"""(major, minor). Major 0: may change with any release. An older minor version keeps loading."""


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
class Link:
    """How data gets from the host to a device, or back. Since 0.2. latency_ns: per transfer; bytes_per_s: 0 where the
    memory is the host's own and nothing is moved."""

    latency_ns: int = 0
    bytes_per_s: int = 0


CONVERSIONS = frozenset({"QUANTIZE", "DEQUANTIZE", "CAST"})
"""Ops that only convert: what lies behind one that converts an input of the graph still starts at the inputs."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a device can take at most. Since 0.2. None: no limit. max_segments: per model. prefix_only: only a segment
    that starts at the graph's inputs (or where CONVERSIONS end that convert them). weight_budget_bytes: constants that
    fit on the device; more are streamed each run. min_ops: segments of fewer ops are not worth its launch."""

    max_segments: int | None = None
    prefix_only: bool = False
    weight_budget_bytes: int | None = None
    min_ops: int = 1


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What a delegate says of one device. Since 0.1 (marked fields: 0.2).

    id: "cpu", "opencl:0", ...; unique on a machine. kind: "cpu", "gpu" or "accelerator". driver: its name and version.
    dtypes: names of element types that it computes in. fingerprint: named parts (driver version, instruction set, ...)
    that decide whether an artifact fits. available: whether ``open`` can work; if not, reason says why and remedy what
    to do. is_virtual: imagined, never chosen unless named. may_hang: core watches its runs from another thread and
    never binds it to a user's memory. machine: the machine that it belongs to; "host" is this one.

    Since 0.2: features: free words ("fp16", "avx512", ...). resource: devices of one resource don't run at the same
    time ("" stands for the id). memory_domain: devices of one domain read each other's buffers; "host" is the host's.
    to_device, from_device: the links. launch_ns: cost of starting one run. numerics: "exact", or what differs in a
    sentence. load_may_jit: loading an artifact may still compile.
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
    features: tuple[str, ...] = ()
    resource: str = ""
    memory_domain: str = "host"
    to_device: Link = Link()
    from_device: Link = Link()
    launch_ns: int = 0
    numerics: str = "exact"
    limits: Limits = Limits()
    load_may_jit: bool = False


class Verdict(Enum):
    """A device's answer for one op. Since 0.1. DEVIATES: it runs, with other rounding than the reference's."""

    YES = "yes"
    DEVIATES = "deviates"
    NO = "no"


@dataclass(frozen=True, slots=True)
class Support:
    """A verdict with its reason. Since 0.1 (value, limit: 0.2).

    constraint: id of the rule that decided. reason: that rule as a sentence with what was found (for DEVIATES: how the
    result differs). advice: what to change so that the op would run; may be empty. value, limit: what was found and
    what is allowed, as short texts, where the rule has them.
    """

    verdict: Verdict
    constraint: str = ""
    reason: str = ""
    advice: str = ""
    value: str = ""
    limit: str = ""

    @property
    def runs(self) -> bool:
        return self.verdict is not Verdict.NO


SUPPORTED = Support(Verdict.YES)

FAILED = "device.failed"
"""The constraint of an answer that core gives in the place of a device which failed."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A device's own idea of a cost. Since 0.2. time_ns: without copies and launch; energy_nj: 0 where unknown."""

    time_ns: int
    energy_nj: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class GraphView:
    """Ops that a device is asked about: nodes in execution order, with concrete shapes. Since 0.1."""

    graph: Graph
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """One piece of a graph's ops: nodes for one device, or (device "") one op that core runs itself. Since 0.1."""

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
    """A compiled segment as bytes. Since 0.1 (packs: 0.2).

    format: the delegate's own name and version for the payload. payload: bytes, or a read-only view on a mapped file.
    packs: names of the constants in the device's own layout that ``load`` will ask for.
    """

    format: str
    payload: bytes | memoryview = b""
    packs: tuple[str, ...] = ()


Options = Mapping[str, Any]
"""Options of a device or a compilation: plain values by name."""
