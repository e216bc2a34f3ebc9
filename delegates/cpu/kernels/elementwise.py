"""Kernels that treat each element alone: formulas on floats, quantized sums and products, conversions.

Operands broadcast: loops over the outer dimensions with a stride per operand (0 where it repeats), vectors along the
innermost. A body says what happens to a vector; parameters that don't shape code are int32 or float words read from
the last pointer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from delegraph.core.ops.expression import Expression
from delegraph.core.ops.fixed_point import BELOW_HALF
from delegraph.delegates.cpu.ir import Function, Value, const, vector
from delegraph.delegates.cpu.isa import Target
from delegraph.delegates.cpu.kernels.fixed import multiply, to_int32
from delegraph.delegates.cpu.kernels.kernel import nest, spans, width
from delegraph.delegates.cpu.kernels.mathematics import render

BYTES = {"float": 4, "i8": 1, "u8": 1, "i16": 2, "i32": 4, "i64": 8}
"""Element types of streams and their sizes; u8 is LLVM's i8, widened with zeros."""


def llvm_type(element: str) -> str:
    return "i8" if element == "u8" else element


class Body(Protocol):
    """What happens to one vector of each operand."""

    @property
    def stem(self) -> str: ...

    def prepare(self, f: Function, target: Target, lanes: int, parameters: Value) -> list[Value]:
        """Values computed once, before all loops."""

    def compute(self, f: Function, target: Target, ready: Sequence[Value], operands: Sequence[Value]) -> Value:
        """The result, of the output's element type. operands: widened to i32 where they are i8 or u8."""


@dataclass(frozen=True)
class Stream:
    """An operand. strides: bytes along each outer dimension; inner: whether it moves along the innermost."""

    element: str
    strides: tuple[int, ...]
    inner: bool = True


@dataclass(frozen=True)
class Elementwise:
    """``kernel(out, operand..., parameters)``. sizes: outer dimensions and the innermost."""

    body: Body
    output: Stream
    operands: tuple[Stream, ...]
    sizes: tuple[int, ...]

    @property
    def stem(self) -> str:
        return self.body.stem

    def build(self, name: str, target: Target) -> Function:
        names = ["out", *(f"in{i}" for i in range(len(self.operands))), "parameters"]
        f = Function(name, [(n, "ptr") for n in names])
        lanes = width(self.sizes[-1], target.lanes)
        ready = self.body.prepare(f, target, lanes, f["parameters"])
        streams = (self.output, *self.operands)
        pointers = [f[n] for n in names[:-1]]
        with nest(f, self.sizes[:-1], pointers, [s.strides for s in streams]) as (out, *ins):
            fixed = [
                None if s.inner else f.splat(f.load(llvm_type(s.element), p), lanes)
                for s, p in zip(self.operands, ins, strict=True)
            ]
            for index in spans(f, self.sizes[-1], lanes):
                values = []
                for s, p, constant in zip(self.operands, ins, fixed, strict=True):
                    v = constant
                    if v is None:
                        v = f.load(vector(lanes, llvm_type(s.element)), f.at(p, index, BYTES[s.element]))
                    if s.element in ("i8", "u8"):
                        v = f.convert("zext" if s.element == "u8" else "sext", v, vector(lanes, "i32"))
                    values.append(v)
                result = self.body.compute(f, target, ready, values)
                f.store(result, f.at(out, index, BYTES[self.output.element]))
        return f


# --- bodies -------------------------------------------------------------------------------------------------------


def words(f: Function, pointer: Value, lanes: int, n: int, element: str = "i32", start: int = 0) -> list[Value]:
    """``n`` parameters, each repeated to a vector."""
    return [f.splat(f.load(element, f.at(pointer, 4 * (start + k))), lanes) for k in range(n)]


@dataclass(frozen=True)
class Formula:
    """A formula of core.ops.expression on float32. Parameters: the attributes in the order of their names, then, if
    ``clamps``, the least and the greatest result (a NaN stays)."""

    name: str
    expression: Expression
    attributes: tuple[str, ...] = ()
    clamps: bool = False

    @property
    def stem(self) -> str:
        return f"{self.name.lower()}_f32_formula"

    def prepare(self, f: Function, target: Target, lanes: int, parameters: Value) -> list[Value]:
        return words(f, parameters, lanes, len(self.attributes) + 2 * self.clamps, "float")

    def compute(self, f: Function, target: Target, ready: Sequence[Value], operands: Sequence[Value]) -> Value:
        attributes = dict(zip(self.attributes, ready, strict=False))
        y = render(f, target, self.expression, operands, attributes)
        return f.clamp(y, ready[-2], ready[-1]) if self.clamps else y


@dataclass(frozen=True)
class QuantizedSum:
    """ADD and SUB of 8 bits: both operands to one scale, added, to the output's.

    Parameters: for a, b and the sum (zero point, multiplier, left, right), then low and high. Source:
    core.ops.families.arithmetic.
    """

    name: str
    dtype: str
    left_shift: int

    @property
    def stem(self) -> str:
        return f"{self.name.lower()}_{self.dtype}_fixed"

    def prepare(self, f: Function, target: Target, lanes: int, parameters: Value) -> list[Value]:
        return words(f, parameters, lanes, 14)

    def compute(self, f: Function, target: Target, ready: Sequence[Value], operands: Sequence[Value]) -> Value:
        a, b = (
            multiply(f, f.binary("shl", f.sub(x, ready[4 * k]), self.left_shift), *ready[4 * k + 1 : 4 * k + 4])
            for k, x in enumerate(operands)
        )
        total = f.add(a, b) if self.name == "ADD" else f.sub(a, b)
        return finish(f, multiply(f, total, *ready[9:12]), ready[8], ready[12], ready[13])


@dataclass(frozen=True)
class QuantizedProduct:
    """MUL of 8 bits. Parameters: zero points of a, b and the output, multiplier, left, right, low, high."""

    dtype: str

    @property
    def stem(self) -> str:
        return f"mul_{self.dtype}_fixed"

    def prepare(self, f: Function, target: Target, lanes: int, parameters: Value) -> list[Value]:
        return words(f, parameters, lanes, 8)

    def compute(self, f: Function, target: Target, ready: Sequence[Value], operands: Sequence[Value]) -> Value:
        product = f.mul(f.sub(operands[0], ready[0]), f.sub(operands[1], ready[1]))
        return finish(f, multiply(f, product, *ready[3:6]), ready[2], ready[6], ready[7])


def finish(f: Function, y: Value, zero_point: Value, low: Value, high: Value) -> Value:
    """``clip(y + zero_point, low, high)`` as bytes, without the sum leaving int32."""
    y = f.add(f.clamp(y, f.sub(low, zero_point), f.sub(high, zero_point)), zero_point)
    return f.convert("trunc", y, y.type.replace("i32", "i8"))


@dataclass(frozen=True)
class Quantize:
    """float32 → 8 bits. Operands: x and, per channel, scale and zero point (float, i32), else parameters: scale
    (float), zero point, low, high. Source: core.ops.families.conversion."""

    dtype: str
    per_channel: bool = False

    @property
    def stem(self) -> str:
        return f"quantize_f32{self.dtype}_{'channels' if self.per_channel else 'tensor'}"

    def prepare(self, f: Function, target: Target, lanes: int, parameters: Value) -> list[Value]:
        return words(f, parameters, lanes, 1, "float") + words(f, parameters, lanes, 3, start=1)

    def compute(self, f: Function, target: Target, ready: Sequence[Value], operands: Sequence[Value]) -> Value:
        scale, zero_point = operands[1:3] if self.per_channel else ready[:2]
        q = f.binary("fdiv", operands[0], scale)
        almost_half = const(q.type, float(BELOW_HALF))
        q = f.add(q, f.intrinsic("copysign", almost_half, q))
        y = f.clamp(f.add(to_int32(f, q), zero_point), ready[2], ready[3])
        return f.convert("trunc", y, y.type.replace("i32", "i8"))


@dataclass(frozen=True)
class Dequantize:
    """8 bits → float32. As ``Quantize``; parameters: scale (float), zero point."""

    dtype: str
    per_channel: bool = False

    @property
    def stem(self) -> str:
        return f"dequantize_{self.dtype}f32_{'channels' if self.per_channel else 'tensor'}"

    def prepare(self, f: Function, target: Target, lanes: int, parameters: Value) -> list[Value]:
        return words(f, parameters, lanes, 1, "float") + words(f, parameters, lanes, 1, start=1)

    def compute(self, f: Function, target: Target, ready: Sequence[Value], operands: Sequence[Value]) -> Value:
        scale, zero_point = operands[1:3] if self.per_channel else ready[:2]
        centred = f.sub(operands[0], zero_point)  # differences of bytes: exact in float32
        return f.mul(f.convert("sitofp", centred, centred.type.replace("i32", "float")), scale)


@dataclass(frozen=True)
class Widen:
    """8 bits → int16, less the zero point (the parameter): what dot products of words read."""

    dtype: str

    @property
    def stem(self) -> str:
        return f"widen_{self.dtype}i16_plain"

    def prepare(self, f: Function, target: Target, lanes: int, parameters: Value) -> list[Value]:
        return words(f, parameters, lanes, 1)

    def compute(self, f: Function, target: Target, ready: Sequence[Value], operands: Sequence[Value]) -> Value:
        y = f.sub(operands[0], ready[0])
        return f.convert("trunc", y, y.type.replace("i32", "i16"))
