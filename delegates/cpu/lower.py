"""A segment → commands: which kernels run in which order, and where their operands lie. Imports core and kernels.

Nothing here needs LLVM. Operands are references to places that get their addresses later: scratch (planned here),
the artifact's own constants, packs, and the caller's inputs and outputs. Ops that only rename data (RESHAPE) become
aliases. Ops' own lowerings are in ``ops``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from delegraph.core.abi.protocols import Packs
from delegraph.core.abi.values import Segment
from delegraph.core.graph.graph import Array
from delegraph.core.ops.opdef import Node, TensorSpec
from delegraph.core.runtime.memory import Usage, plan_memory
from delegraph.delegates.cpu.isa import Target
from delegraph.delegates.cpu.kernels.kernel import Kernel
from delegraph.delegates.cpu.packing import Layout, PlainLayout, layout_text

SLACK_BYTES = 64
"""What may be read behind a scratch tensor: dot products take 4 bytes at a time, vectors more."""

INLINE_BYTES = 1024
"""Constants up to this size are kept in the artifact, larger ones in packs."""

ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Ref:
    """A place. kind: "scratch" (index: tensor, or below 0 a temporary), "constant" (index: offset in the artifact's
    constants), "pack", "input", "output" (index: number). offset: bytes from there."""

    kind: str
    index: int
    offset: int = 0

    def __add__(self, offset: int) -> Ref:
        return Ref(self.kind, self.index, self.offset + offset)


@dataclass(frozen=True, slots=True)
class Command:
    """One call of a kernel. op: the index of the op that it is for."""

    kernel: Kernel
    args: tuple[Ref, ...]
    op: int


@dataclass(frozen=True, slots=True)
class PackUse:
    """A constant in a layout: the name of the pack, and how to make it from which tensor."""

    name: str
    tensor: int
    layout: str


@dataclass(slots=True)
class Lowered:
    """A segment as commands, with its memory. offsets: of scratch tensors and temporaries."""

    commands: list[Command]
    constants: bytes
    packs: list[PackUse]
    offsets: dict[int, int]
    scratch_bytes: int


@dataclass(slots=True)
class Lowering:
    """What an op's lowering works with: gives places, takes commands."""

    target: Target
    segment: Segment
    packs: Packs
    commands: list[Command] = field(default_factory=list)
    _constants: bytearray = field(default_factory=bytearray)
    _known: dict[bytes, int] = field(default_factory=dict)
    _packs: list[PackUse] = field(default_factory=list)
    _aliases: dict[int, int] = field(default_factory=dict)
    _sizes: dict[int, int] = field(default_factory=dict)
    _first: dict[int, int] = field(default_factory=dict)
    _last: dict[int, int] = field(default_factory=dict)
    _node: Node | None = None
    _step: int = 0

    # --- for ops

    def emit(self, kernel: Kernel, *args: Ref) -> None:
        """The next call."""
        assert self._node is not None
        for ref in args:
            if ref.kind == "scratch":
                self._first.setdefault(ref.index, self._step)
                self._last[ref.index] = self._step
        self.commands.append(Command(kernel, args, self._node.op.index))
        self._step += 1

    def input(self, node: Node, slot: int) -> Ref:
        """Where an operand lies."""
        spec = node.input(slot)
        if spec.value is not None:
            return self.constant_tensor(node, slot)
        return self._tensor(node.op.inputs[slot], spec)

    def output(self, node: Node, slot: int = 0) -> Ref:
        return self._tensor([i for i in node.op.outputs if i >= 0][slot], node.outputs[slot])

    def temporary(self, size_bytes: int) -> Ref:
        """Memory for this op alone."""
        index = -1 - len([i for i in self._sizes if i < 0])
        self._sizes[index] = size_bytes
        return Ref("scratch", index)

    def constant(self, data: bytes | Array) -> Ref:
        """Data that travels with the artifact; equal data once."""
        raw = data if isinstance(data, bytes) else np.ascontiguousarray(data).tobytes()
        if raw not in self._known:
            self._constants += bytes(-len(self._constants) % ALIGNMENT)
            self._known[raw] = len(self._constants)
            self._constants += raw
        return Ref("constant", self._known[raw])

    def words(self, *values: float, floats: int = 0) -> Ref:
        """Parameters of 4 bytes: the first ``floats`` of them float32, the others int32."""
        raw = np.array(values[:floats], np.float32).tobytes()
        return self.constant(raw + np.array([int(v) for v in values[floats:]], np.int64).astype(np.int32).tobytes())

    def pack(self, node: Node, slot: int, layout: Layout) -> Ref:
        """A constant operand in a layout of its own."""
        value = node.input(slot).value
        assert value is not None
        text = layout_text(layout)
        name = f"cpu/{text}/{self.packs.digest(value)}"
        for index, use in enumerate(self._packs):
            if use.name == name:
                return Ref("pack", index)
        self._packs.append(PackUse(name, node.op.inputs[slot], text))
        return Ref("pack", len(self._packs) - 1)

    def constant_tensor(self, node: Node, slot: int) -> Ref:
        """A constant operand as it is."""
        value = node.input(slot).value
        assert value is not None
        if value.nbytes <= INLINE_BYTES:
            return self.constant(value)
        return self.pack(node, slot, PlainLayout())

    def alias(self, node: Node) -> bool:
        """Makes output 0 another name of input 0, if that can be."""
        spec, out = node.input(0), node.op.outputs[0]
        if spec.value is not None or out in self.segment.outputs:
            return False
        self._aliases[out] = self._root(node.op.inputs[0])
        return True

    def has_slack(self, node: Node, slot: int) -> bool:
        """Whether a few bytes behind the operand may be read."""
        return self.input(node, slot).kind == "scratch"

    # --- inside

    def _root(self, tensor: int) -> int:
        return self._aliases.get(tensor, tensor)

    def _tensor(self, tensor: int, spec: TensorSpec) -> Ref:
        tensor = self._root(tensor)
        if tensor in self.segment.inputs:
            return Ref("input", self.segment.inputs.index(tensor))
        if tensor in self.segment.outputs:
            return Ref("output", self.segment.outputs.index(tensor))
        self._sizes.setdefault(tensor, spec.size_bytes)
        return Ref("scratch", tensor)

    def lower(self, lower_node: Callable[[Lowering, Node], None]) -> Lowered:
        """All nodes in order, and the plan of the scratch memory."""
        for node in self.segment.nodes:
            self._node = node
            lower_node(self, node)
        usages = [
            Usage(i, size + SLACK_BYTES, self._first[i], self._last[i])
            for i, size in self._sizes.items()
            if i in self._first
        ]
        plan = plan_memory(usages, ALIGNMENT)
        return Lowered(self.commands, bytes(self._constants), self._packs, plan.offsets, plan.size_bytes)


def strides_of(shape: Sequence[int], element_bytes: int) -> tuple[int, ...]:
    """Bytes between neighbours along each axis of a dense tensor."""
    strides = [element_bytes]
    for n in reversed(shape[1:]):
        strides.append(strides[-1] * n)
    return tuple(reversed(strides))[len(strides) - len(shape) :] if shape else ()
