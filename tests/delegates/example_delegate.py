"""A whole delegate in Python: ADD of float32 tensors with NumPy. docs/delegates-in-python.md walks through it."""

from collections.abc import Sequence

import numpy as np

from delegraph.core.abi import (
    SUPPORTED,
    Artifact,
    Buffer,
    Context,
    Delegate,
    Device,
    DeviceInfo,
    Event,
    GraphView,
    Options,
    Packs,
    Program,
    Segment,
    Support,
    Verdict,
)
from delegraph.core.abi.host import FINISHED, HostBuffer, allocate, await_all
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array
from delegraph.core.ops.opdef import Node

INFO = DeviceInfo(id="adder", kind="cpu", vendor="example", driver=f"NumPy {np.__version__}", dtypes=("float32",))


class AddDelegate(Delegate):
    name = "adder"
    version = "1"  # a new version makes artifacts anew

    def devices(self) -> Sequence[DeviceInfo]:
        return (INFO,)

    def open(self, device_id: str, options: Options, host: Device | None = None) -> Device:
        return AddDevice()


class AddDevice(Device):
    info = INFO

    def supports(self, view: GraphView) -> Sequence[Support]:
        return [judge(node) for node in view.nodes]

    def compile(self, segment: Segment, packs: Packs, options: Options, *, deadline: float | None = None) -> Artifact:
        return Artifact("adder-1")  # nothing to compile: the segment says it all

    def load(self, artifact: Artifact, segment: Segment, packs: Packs) -> Program:
        return AddProgram(segment)

    def allocate(self, size_bytes: int, alignment: int = 64) -> Buffer:
        return allocate(size_bytes, alignment)

    def import_host(self, memory: Array) -> Buffer:
        return HostBuffer(memory)  # runs on the caller's own arrays

    def close(self) -> None:
        pass


def judge(node: Node) -> Support:
    if node.op.name != "ADD" or node.options.fused_activation_function != 0:
        return Support(Verdict.NO, "adder.op", "this device has ADD without an activation only")
    if any(spec is not None and spec.dtype is not DType.FLOAT32 for spec in node.inputs):
        return Support(Verdict.NO, "adder.dtype", "operands must be float32", limit="float32")
    return SUPPORTED


class AddProgram(Program):
    def __init__(self, segment: Segment) -> None:
        self.segment = segment

    def context(self, scratch: Buffer) -> Context:
        return AddContext(self.segment)

    def close(self) -> None:
        pass


class AddContext(Context):
    def __init__(self, segment: Segment) -> None:
        self.segment = segment

    def bind(self, inputs: Sequence[Buffer], outputs: Sequence[Buffer]) -> None:
        self.inputs = dict(zip(self.segment.inputs, map(self.view, inputs, self.segment.inputs), strict=True))
        self.outputs = dict(zip(self.segment.outputs, map(self.view, outputs, self.segment.outputs), strict=True))

    def unbind(self) -> None:
        self.inputs, self.outputs = {}, {}

    def view(self, buffer: Buffer, tensor: int) -> Array:
        spec, memory = self.segment.specs[tensor], buffer.host_view()
        assert memory is not None  # all of this device's buffers are host memory
        return memory[: spec.size_bytes].view(spec.dtype.numpy).reshape(spec.shape)

    def run(self, *, after: Sequence[Event] = (), deadline: float | None = None) -> Event:
        await_all(after, INFO.id)
        values = dict(self.inputs)
        for node in self.segment.nodes:
            for tensor, spec in zip(node.op.inputs, node.inputs, strict=True):
                if spec is not None and spec.value is not None:
                    values[tensor] = spec.value  # a constant
            a, b = (values[tensor] for tensor in node.op.inputs)
            values[node.op.outputs[0]] = np.add(a, b)
        for tensor, memory in self.outputs.items():
            np.copyto(memory, values[tensor])
        return FINISHED
