"""Commands → one LLVM module: each kernel once, and an entry that calls them in order. Imports kernels.

The entry takes one pointer, to a block of addresses: scratch, the artifact's constants, packs, inputs, outputs. It is
all there is of control: threads would all run it, with a barrier behind each command.
"""

from __future__ import annotations

from delegraph.delegates.cpu.ir import Function, Value
from delegraph.delegates.cpu.isa import Target
from delegraph.delegates.cpu.kernels.kernel import Kernel, kernel_name
from delegraph.delegates.cpu.lower import Lowered, Ref

ENTRY = "run"


def slot_of(ref: Ref, n_packs: int, n_inputs: int) -> int:
    """The place of a reference's base in the block of addresses."""
    start = {"scratch": 0, "constant": 1, "pack": 2, "input": 2 + n_packs, "output": 2 + n_packs + n_inputs}
    return start[ref.kind] + (ref.index if ref.kind in ("pack", "input", "output") else 0)


def offset_of(ref: Ref, lowered: Lowered) -> int:
    """Bytes from that base."""
    if ref.kind == "scratch":
        return lowered.offsets[ref.index] + ref.offset
    return ref.offset + (ref.index if ref.kind == "constant" else 0)


def module_text(lowered: Lowered, target: Target, n_inputs: int) -> str:
    """The module's IR."""
    names: dict[Kernel, str] = {}
    functions: list[Function] = []
    entry = Function(ENTRY, [("context", "ptr")], exported=True)
    bases: dict[int, Value] = {}
    for command in lowered.commands:
        if command.kernel not in names:
            names[command.kernel] = kernel_name(command.kernel, target)
            functions.append(command.kernel.build(names[command.kernel], target))
        pointers = []
        for ref in command.args:
            slot = slot_of(ref, len(lowered.packs), n_inputs)
            if slot not in bases:
                bases[slot] = entry.load("ptr", entry.at(entry["context"], slot * 8))
            pointers.append(entry.at(bases[slot], offset_of(ref, lowered)))
        entry.call_void(names[command.kernel], *pointers)
    return join([*functions, entry])


def join(functions: list[Function]) -> str:
    """A module of these functions."""
    declarations: dict[str, None] = {}
    for f in functions:
        declarations.update(f.declarations)
    return "\n".join([*declarations, "", *(f.text() for f in functions)])


def kernel_module(kernel: Kernel, target: Target, n_pointers: int) -> str:
    """A module of one kernel, with an entry that hands it ``n_pointers`` addresses: for tests and benchmarks."""
    name = kernel_name(kernel, target)
    entry = Function(ENTRY, [("context", "ptr")], exported=True)
    entry.call_void(name, *(entry.load("ptr", entry.at(entry["context"], 8 * k)) for k in range(n_pointers)))
    return join([kernel.build(name, target), entry])
