"""Launches: what a lowered segment consists of, and the emitter that collects them. Imports core.abi, layouts, traits.

A lowering says ``emit.launch(name, size, args, body)``. Each argument declares itself in the kernel's signature and
says what it is bound to, so that the two can't drift apart; kernels of equal text become one function.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from delegraph.core.graph.graph import Array
from delegraph.core.ops.opdef import Node, TensorSpec
from delegraph.delegates.opencl.snippets import NO_CONTRACTION, definitions
from delegraph.delegates.opencl.traits import Traits

GROUP = 64
"""Work items of a group. One size for all kernels: PoCL compiles a kernel once for each."""


# --- what arguments refer to --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A tensor of the segment."""

    tensor: int


@dataclass(frozen=True, slots=True)
class PackRef:
    """A constant of the model in a layout of ``layouts``."""

    tensor: int
    layout: str


@dataclass(frozen=True, slots=True)
class BlobRef:
    """Values made for this segment, that the artifact holds itself."""

    index: int


Ref = TensorRef | PackRef | BlobRef


@dataclass(frozen=True, slots=True)
class Read:
    """Memory that the kernel reads."""

    ctype: str
    name: str
    ref: Ref

    @property
    def declaration(self) -> str:
        return f"__global const {self.ctype} *restrict {self.name}"


@dataclass(frozen=True, slots=True)
class Write:
    """The tensor that the kernel makes."""

    ctype: str
    name: str
    ref: TensorRef

    @property
    def declaration(self) -> str:
        return f"__global {self.ctype} *restrict {self.name}"


@dataclass(frozen=True, slots=True)
class Int:
    """A 32-bit integer."""

    name: str
    value: int

    @property
    def declaration(self) -> str:
        return f"const int {self.name}"


@dataclass(frozen=True, slots=True)
class Float:
    """A float32."""

    name: str
    value: float

    @property
    def declaration(self) -> str:
        return f"const float {self.name}"

    @property
    def bits(self) -> int:
        found: int = struct.unpack("<I", struct.pack("<f", np.float32(self.value)))[0]
        return found


Arg = Read | Write | Int | Float


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel call. kernel: its number. size: work items, which are rounded up to whole groups of ``GROUP``."""

    kernel: int
    size: int
    args: tuple[Arg, ...]


# --- the emitter --------------------------------------------------------------------------------------------------


class Emitter:
    """Collects the launches of a segment.

    delivered: tensors that have to be in the caller's memory. aliases: tensors that are another one's memory. kernels:
    name → source, in order of first use.
    """

    def __init__(self, traits: Traits, delivered: frozenset[int] = frozenset()) -> None:
        self.traits, self.delivered = traits, delivered
        self.launches: list[Launch] = []
        self.blobs: list[Array] = []
        self.aliases: dict[int, int] = {}
        self.kernels: dict[str, str] = {}
        self._numbers: dict[str, int] = {}
        self._blob_numbers: dict[bytes, int] = {}
        self._values: dict[int, Array] = {}

    # operands

    def input(self, node: Node, slot: int) -> TensorRef | PackRef:
        """The operand at ``slot``: a constant as it is in the model, or a tensor."""
        return self.operand(node.op.inputs[slot], node.input(slot))

    def operand(self, tensor: int, spec: TensorSpec) -> TensorRef | PackRef:
        if spec.value is not None:
            return self.packed(tensor, spec, "plain")
        return TensorRef(tensor)

    def packed(self, tensor: int, spec: TensorSpec, layout: str) -> PackRef:
        """A constant in a layout of ``layouts``."""
        assert spec.value is not None
        self._values[tensor] = spec.value
        return PackRef(tensor, layout)

    def output(self, node: Node, slot: int = 0) -> TensorRef:
        return TensorRef(node.op.outputs[slot])

    def blob(self, values: Array) -> BlobRef:
        """Values of the artifact's own; equal ones are kept once."""
        values = np.ascontiguousarray(values)
        number = self._blob_numbers.setdefault(values.tobytes(), len(self.blobs))
        if number == len(self.blobs):
            self.blobs.append(values)
        return BlobRef(number)

    def value_of(self, ref: PackRef) -> Array:
        """The constant that a pack is made from."""
        return self._values[ref.tensor]

    # calls

    def launch(
        self,
        name: str,
        size: int,
        args: Sequence[Arg],
        body: str,
        *,
        contract: bool = False,
    ) -> None:
        """One kernel call over ``size`` work items.

        body: OpenCL C, which may use the arguments' names and the functions of ``snippets``. There are more items than
        ``size``: the body leaves out those from there on, by an argument of its own. contract: whether ``a * b + c``
        may be rounded once; only sums of products may.
        """
        signature = ", ".join(arg.declaration for arg in args)
        rounding = "" if contract else NO_CONTRACTION
        text = f"({signature}) {{\n{rounding}{body.strip()}\n}}\n"
        if text not in self._numbers:
            self._numbers[text] = len(self._numbers)
            unique = f"{name}_{self._numbers[text]}"
            self.kernels[unique] = f"__kernel void {unique}{text}"
        self.launches.append(Launch(self._numbers[text], size, tuple(args)))

    def alias(self, tensor: int, of: int) -> None:
        """``tensor`` is the memory of ``of`` under another shape."""
        self.aliases[tensor] = of

    @property
    def source(self) -> str:
        """The whole program."""
        kernels = "\n".join(self.kernels.values())
        extension = "#pragma OPENCL EXTENSION cl_khr_fp64 : enable\n" if self.traits.fp64 else ""
        return extension + definitions(kernels) + kernels
