"""A sample of the OpDefs' own test cases, as pieces of graphs. Imports core.ops and sketch.

The same sample in every process: it depends on the OpDefs and on a fixed seed only.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from delegraph.core.errors import DelegraphError
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array
from delegraph.core.ops import registry
from delegraph.core.ops.opdef import Case, OpDef
from delegraph.core.ops.support import node_support
from delegraph.testing.contract.expected import expectation
from delegraph.testing.contract.sketch import Make, Sketch, Specimen, UnusableSketch

SEED = 20240607
PER_KIND = 1
"""Cases of an op for each kind of types."""


@dataclass(frozen=True, eq=False)
class Piece:
    """A case of an op. kind: "float", "quantized" or "integer". position: which of the op's cases it is."""

    op: OpDef
    case: Case
    kind: str
    position: int

    def add_to(self, sketch: Sketch) -> list[int]:
        return sketch.case(self.op, self.case, self.makes, {})

    @property
    def has_constant(self) -> bool:
        return any(operand is not None and operand.constant for operand in self.case.inputs)

    @property
    def makes(self) -> tuple[Make | None, ...]:
        """Values for the operands; None for one that is constant or left out."""
        return tuple(
            None if operand is None or operand.constant else functools.partial(self._value, slot)
            for slot, operand in enumerate(self.case.inputs)
        )

    def with_other_constants(self, slots: Sequence[int]) -> Piece:
        """The same op with the elements of these operands, where they are constant, in the opposite order."""
        inputs = tuple(
            replace(operand, data=np.flip(operand.data).copy())
            if slot in slots and operand is not None and operand.constant
            else operand
            for slot, operand in enumerate(self.case.inputs)
        )
        return replace(self, case=replace(self.case, inputs=inputs))

    def with_other_scales(self) -> Piece:
        """The same op with quantized results of twice the scale."""
        outputs = tuple(
            result
            if result.quantization is None
            else replace(result, quantization=replace(result.quantization, scales=result.quantization.scales * 2))
            for result in self.case.outputs
        )
        return replace(self, case=replace(self.case, outputs=outputs))

    @functools.cached_property
    def n_feeds(self) -> int:
        """How many sets of data there are for which the reference has a result: 2, or 1, or (it refuses the case) 0."""
        specimen = bundle((self,))
        slots = [slot for slot, make in enumerate(self.makes) if make is not None]
        for k in range(2):
            try:
                expectation(specimen, [self._drawn(slot, k) for slot in slots])
            except DelegraphError:
                return k
        return 2

    def _value(self, slot: int, k: int) -> Array:
        return self._drawn(slot, k % max(1, self.n_feeds))

    def _drawn(self, slot: int, k: int) -> Array:
        assert self.op.cases is not None
        return _values(self.op.cases, self.position, k)[slot]


@functools.cache
def pieces() -> tuple[Piece, ...]:
    """The sample, in the order of the ops' names."""
    found: list[Piece] = []
    for op in registry.all_ops():
        if op.cases is None or op.host:
            continue
        cases = list(op.cases(np.random.default_rng(SEED)))
        order = np.random.default_rng((SEED, len(cases))).permutation(len(cases))
        taken = {"float": 0, "quantized": 0, "integer": 0}
        for position in map(int, order):
            kind = _kind(cases[position])
            if taken[kind] < PER_KIND:
                piece = Piece(op, cases[position], kind, position)
                if _is_usable(piece):
                    taken[kind] += 1
                    found.append(piece)
    return tuple(found)


def with_data(some: Sequence[Piece], at_most: int) -> list[Piece]:
    """The first of them for whose data the reference has a result."""
    return list(itertools.islice((piece for piece in some if piece.n_feeds), at_most))


def bundle(some: Sequence[Piece], name: str = "ops side by side") -> Specimen:
    """These ops in one graph, none reading from another. Raises UnusableSketch."""
    return _bundle(tuple(some), name)


@functools.lru_cache(64)
def _bundle(some: tuple[Piece, ...], name: str) -> Specimen:
    sketch = Sketch(name)
    for piece in some:
        piece.add_to(sketch)
    return sketch.specimen()


@functools.cache
def everything() -> Specimen:
    """All pieces in one graph; its nodes are in their order."""
    return bundle(pieces())


def _kind(case: Case) -> str:
    if any(result.quantization is not None and result.dtype.is_integer for result in case.outputs):
        return "quantized"
    return "float" if any(result.dtype is DType.FLOAT32 for result in case.outputs) else "integer"


def _is_usable(piece: Piece) -> bool:
    """Whether core would ask a device about it."""
    sketch = Sketch(piece.op.name)
    piece.add_to(sketch)
    try:
        node = sketch.only_node()
    except UnusableSketch:
        return False
    return node_support(node.op, node) is None and any(make is not None for make in piece.makes)


@functools.lru_cache(4096)
def _values(cases: Callable[[np.random.Generator], object], position: int, k: int) -> tuple[Array, ...]:
    """The operands of a case with its k-th data: the same case of the generator started elsewhere, where that has the
    same form, else the data of feed 0."""
    first = _case_at(cases, position, 0)
    if k == 0:
        return first
    other = _case_at(cases, position, k)
    fits = len(first) == len(other) and all(
        a.shape == b.shape and a.dtype == b.dtype for a, b in zip(first, other, strict=True)
    )
    return other if fits else first


@functools.lru_cache(512)
def _drawn(cases: Callable[[np.random.Generator], Iterable[Case]], k: int) -> list[Case]:
    return list(cases(np.random.default_rng(SEED if k == 0 else (SEED, k))))


def _case_at(cases: Callable[[np.random.Generator], object], position: int, k: int) -> tuple[Array, ...]:
    drawn = _drawn(cases, k)
    if position >= len(drawn):
        return ()
    return tuple(np.zeros(0) if operand is None else np.asarray(operand.data) for operand in drawn[position].inputs)
