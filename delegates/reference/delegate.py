"""The reference delegate: the definition of every op's result, and the floor under every other device.

Its one device, ``reference``, takes every op that has an OpDef with a matching form. There is nothing to compile: the
artifact is empty and the program is the kernels that the forms prepare. Intermediate arrays are NumPy's own, dropped
after their last use. Imports delegraph.core up to abi.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from delegraph.core.abi import host
from delegraph.core.abi.protocols import Buffer, Context, Delegate, Device, Event, Packs, Program
from delegraph.core.abi.values import (
    SUPPORTED,
    Artifact,
    DelegateError,
    DeviceInfo,
    ErrorCode,
    GraphView,
    Options,
    Segment,
    Support,
    Verdict,
)
from delegraph.core.errors import InvalidArgument
from delegraph.core.graph.graph import Array
from delegraph.core.ops import registry
from delegraph.core.ops.blas import one_thread
from delegraph.core.ops.opdef import Kernel, Node, blamed_on
from delegraph.core.ops.support import node_support
from delegraph.core.version import __version__

ARTIFACT_FORMAT = "reference-0"

INFO = DeviceInfo(
    id="reference",
    kind="cpu",
    vendor="delegraph",
    driver=f"NumPy {np.__version__}",
    fingerprint={"numpy": np.__version__},
)


class ReferenceDelegate(Delegate):
    """Delegate "reference"."""

    name = "reference"
    version = __version__

    def devices(self) -> Sequence[DeviceInfo]:
        return (INFO,)

    def open(self, device_id: str, options: Options, host: Device | None = None) -> ReferenceDevice:
        if device_id != INFO.id:
            raise InvalidArgument("reference: device", "'reference'", repr(device_id))
        return ReferenceDevice()


class ReferenceDevice(Device):
    """Device "reference"."""

    info = INFO

    def supports(self, view: GraphView) -> Sequence[Support]:
        return [_support(node) for node in view.nodes]

    def compile(self, segment: Segment, packs: Packs, options: Options, *, deadline: float | None = None) -> Artifact:
        return Artifact(ARTIFACT_FORMAT)

    def load(self, artifact: Artifact, segment: Segment, packs: Packs) -> ReferenceProgram:
        if artifact.format != ARTIFACT_FORMAT:
            raise DelegateError(INFO.id, ErrorCode.ARTIFACT_REFUSED, f"format {artifact.format!r}")
        return ReferenceProgram(segment)

    def allocate(self, size_bytes: int, alignment: int = 64) -> host.HostBuffer:
        return host.allocate(size_bytes, alignment)

    def import_host(self, memory: Array) -> host.HostBuffer:
        return host.HostBuffer(memory)

    def close(self) -> None:
        return None


def _support(node: Node) -> Support:
    problem = node_support(node.op, node)
    if problem is None:
        return SUPPORTED
    return Support(Verdict.NO, problem.constraint, problem.reason, problem.advice)


@dataclass(frozen=True, slots=True)
class _Step:
    """One kernel call: where its operands are, and which values are dropped after it."""

    node: Node
    kernel: Kernel
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    drop: tuple[int, ...]


class ReferenceProgram(Program):
    """The prepared kernels of a segment. Thread-safe: kernels keep no state."""

    scratch_bytes = 0
    alignment = 1

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.constants = {
            i: spec.value
            for node in segment.nodes
            for i, spec in zip(node.op.inputs, node.inputs, strict=False)
            if spec is not None and spec.value is not None
        }
        self.has_products = any(_has_products(node) for node in segment.nodes)
        delivered = {*segment.outputs, *segment.variables}
        last_use: dict[int, int] = {}
        for position, node in enumerate(segment.nodes):
            for i in (*node.op.inputs, *node.op.outputs):
                last_use[i] = position
        self.steps = tuple(
            _Step(
                node,
                _prepare(node),
                node.op.inputs,
                node.op.outputs + _updated(node),
                tuple(
                    i
                    for i in {*node.op.inputs, *node.op.outputs}
                    if last_use[i] == position and i not in delivered and i not in self.constants
                ),
            )
            for position, node in enumerate(segment.nodes)
        )

    def context(self, scratch: Buffer) -> ReferenceContext:
        return ReferenceContext(self)

    def close(self) -> None:
        return None


def _has_products(node: Node) -> bool:
    """Whether an op multiplies matrices, which is done by BLAS."""
    opdef = registry.find(node.op.name)
    return opdef is not None and opdef.count(node).macs > 0


def _updated(node: Node) -> tuple[int, ...]:
    opdef = registry.find(node.op.name)
    assert opdef is not None
    return tuple(node.op.inputs[slot] for slot in opdef.variables)


def _prepare(node: Node) -> Kernel:
    opdef = registry.find(node.op.name)
    form = None if opdef is None else opdef.form(node)
    if form is None:
        raise DelegateError(INFO.id, ErrorCode.UNSUPPORTED, f"{node.place}: {_support(node).reason}")
    with blamed_on(node):
        return form.prepare(node)


class ReferenceContext(Context):
    """One caller's run of a program."""

    def __init__(self, program: ReferenceProgram) -> None:
        self._program = program
        self._inputs: tuple[Array, ...] = ()
        self._outputs: tuple[Array, ...] = ()

    def bind(self, inputs: Sequence[Buffer], outputs: Sequence[Buffer]) -> None:
        segment = self._program.segment
        self._inputs = tuple(self._view(b, i) for b, i in zip(inputs, segment.inputs, strict=True))
        self._outputs = tuple(
            self._view(b, i) for b, i in zip(outputs, segment.outputs + segment.variables, strict=True)
        )

    def unbind(self) -> None:
        self._inputs = self._outputs = ()

    def _view(self, buffer: Buffer, tensor: int) -> Array:
        spec = self._program.segment.specs[tensor]
        memory = buffer.host_view()
        if memory is None or memory.size < spec.size_bytes:
            found = "no host memory" if memory is None else f"{memory.size} bytes"
            raise DelegateError(
                INFO.id,
                ErrorCode.INVALID,
                f"tensor {tensor}: expected {spec.size_bytes} bytes, found {found}",
            )
        return memory[: spec.size_bytes].view(spec.dtype.numpy).reshape(spec.shape)

    def run(self, *, after: Sequence[Event] = (), deadline: float | None = None) -> Event:
        host.await_all(after, INFO.id)
        program = self._program
        values: dict[int, Array] = dict(program.constants)
        values.update(zip(program.segment.inputs, self._inputs, strict=True))
        with np.errstate(all="ignore"), one_thread if program.has_products else nullcontext():
            for step in program.steps:
                with blamed_on(step.node):
                    results = step.kernel(*(None if i < 0 else values[i] for i in step.inputs))
                    values.update(zip(step.outputs, results, strict=True))
                for i in step.drop:
                    values.pop(i, None)
        delivered = program.segment.outputs + program.segment.variables
        for i, out in zip(delivered, self._outputs, strict=True):
            if values[i].shape != out.shape or values[i].dtype != out.dtype:
                raise DelegateError(
                    INFO.id,
                    ErrorCode.INTERNAL,
                    f"tensor {i}: expected {out.dtype}{list(out.shape)}, "
                    f"the kernel returned {values[i].dtype}{list(values[i].shape)}",
                )
            np.copyto(out, values[i])
        return host.FINISHED
