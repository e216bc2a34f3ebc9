"""Simple ops that take and give tensors of one type and shape: what generated graphs are woven from. Imports sketch."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Quantization
from delegraph.core.ops.opdef import Result
from delegraph.core.ops.support import node_support
from delegraph.testing.contract.sketch import Shape, Sketch, Specimen, UnusableSketch, random_values

TYPES: dict[str, tuple[DType, Quantization | None]] = {
    "float32": (DType.FLOAT32, None),
    "int8": (DType.INT8, Quantization.per_tensor(0.05, 3)),
    "uint8": (DType.UINT8, Quantization.per_tensor(0.05, 131)),
    "int16": (DType.INT16, Quantization.per_tensor(0.001, 0)),
    "int32": (DType.INT32, None),
}
"""The element types of generated graphs, the most usual first."""

_CANDIDATES = (
    ("ADD", 2),
    ("MUL", 2),
    ("RELU", 1),
    ("SUB", 2),
    ("MAXIMUM", 2),
    ("RELU6", 1),
    ("MINIMUM", 2),
    ("NEG", 1),
    ("ABS", 1),
)


@dataclass(frozen=True)
class Glue:
    """An op of one or two operands. arity: how many."""

    name: str
    arity: int


Palette = tuple[Glue, ...]
"""The simple ops that a graph may be made of."""


@dataclass(frozen=True)
class Type:
    """Element type, quantization and shape of all the tensors of a graph."""

    dtype: DType
    quantization: Quantization | None
    shape: Shape

    @property
    def result(self) -> Result:
        return Result(self.dtype, self.quantization)

    def input(self, sketch: Sketch) -> int:
        return sketch.input(self.shape, self.dtype, self.quantization)

    def constant(self, sketch: Sketch, seed: int) -> int:
        make = random_values(self.shape, self.dtype, seed, is_quantized=self.quantization is not None)
        return sketch.constant(make(0), self.quantization, self.dtype)


def type_of(name: str, shape: Shape) -> Type:
    return Type(*TYPES[name], shape)


def apply(sketch: Sketch, glue: Glue, operands: Sequence[int], kind: Type) -> int:
    (made,) = sketch.op(glue.name, operands[: glue.arity], [kind.result])
    return made


@functools.cache
def trial(kind: Type) -> tuple[Specimen, Palette]:
    """A graph with each candidate once, side by side, and which they are: what a device is asked to learn which it
    takes. Those that the reference refuses are left out."""
    taken = tuple(Glue(name, arity) for name, arity in _CANDIDATES if _runs(Glue(name, arity), kind))
    if not taken:
        raise UnusableSketch("no candidate has this type")
    return _side_by_side(taken, kind), taken


def _runs(glue: Glue, kind: Type) -> bool:
    try:
        sketch = Sketch(glue.name)
        apply(sketch, glue, [kind.input(sketch), kind.input(sketch)], kind)
        node = sketch.only_node()
    except UnusableSketch:
        return False
    return node_support(node.op, node) is None


def _side_by_side(some: Sequence[Glue], kind: Type) -> Specimen:
    sketch = Sketch("candidates")
    operands = [kind.input(sketch), kind.input(sketch)]
    for glue in some:
        apply(sketch, glue, operands, kind)
    return sketch.specimen()


@functools.cache
def workbench(palette: Palette, kind: Type, seed: int = 9) -> Specimen:
    """Two inputs, a constant read twice, a tensor read three times, two outputs, one of them read inside as well.
    seed: of the constant."""
    sketch = Sketch("the workbench graph")
    one, two = _pick(palette, 1), _pick(palette, 2)
    a, b = kind.input(sketch), kind.input(sketch)
    c = kind.constant(sketch, seed)
    t0 = apply(sketch, palette[0], [a, b], kind)
    t1 = apply(sketch, two, [t0, c], kind)
    t2 = apply(sketch, one, [t0, b], kind)
    t3 = apply(sketch, palette[1 % len(palette)], [t2, c], kind)
    t4 = apply(sketch, two, [t3, t0], kind)
    return sketch.specimen([t1, t2, t4])


@functools.cache
def chain(palette: Palette, kind: Type, length: int = 6) -> Specimen:
    sketch = Sketch(f"a chain of {length}")
    x = first = kind.input(sketch)
    for i in range(length):
        x = apply(sketch, palette[i % len(palette)], [x, first], kind)
    return sketch.specimen()


@functools.cache
def random_graph(palette: Palette, kind: Type, seed: int, n_ops: int = 8) -> Specimen:
    """Operands drawn from all tensors so far, the later ones more often; a tensor may be both operands. Delivers what
    nothing reads, and one tensor that is read as well."""
    rng = np.random.default_rng((seed, 5))
    sketch = Sketch(f"generated graph {seed}")
    pool = [kind.input(sketch) for _ in range(int(rng.integers(1, 4)))]
    pool.append(kind.constant(sketch, seed))
    constant, first = pool[-1], len(pool)
    read: set[int] = set()
    for _ in range(n_ops):
        glue = palette[int(rng.integers(len(palette)))]
        operands = [pool[max(0, len(pool) - int(rng.geometric(0.35)))] for _ in range(glue.arity)]
        if all(i == constant for i in operands):
            operands[0] = pool[0]
        read |= set(operands)
        pool.append(apply(sketch, glue, operands, kind))
    made = pool[first:]
    inner = [i for i in made if i in read]
    outputs = [i for i in made if i not in read] + inner[:1]
    return sketch.specimen(outputs)


@functools.cache
def pair(palette: Palette, kind: Type) -> Specimen:
    """An op of two operands, then one of one, both delivered."""
    sketch = Sketch(f"a graph of shape {list(kind.shape)}")
    a, b = kind.input(sketch), kind.input(sketch)
    t = apply(sketch, palette[0], [a, b], kind)
    return sketch.specimen([t, apply(sketch, _pick(palette, 1), [t, a], kind)])


def _pick(palette: Palette, arity: int) -> Glue:
    return next((glue for glue in palette if glue.arity == arity), palette[0])
