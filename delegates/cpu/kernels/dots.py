"""Sums of products in vectors: how 4 bytes of input and a vector of weights are added to accumulators.

Each kind reads its input ``group`` elements (4 bytes) at a time, repeats them in all lanes, and has weights packed
``[lanes][group]``, so that one lane is one output channel.

| kind | input | weights | sums |
| --- | --- | --- | --- |
| f32 | float | float | float |
| s8 | int8, taken as unsigned by adding 128 | int8 | int32, by VNNI |
| u8 | uint8 | int8 | int32, by VNNI |
| i16 | int16 | int16 | int32, by multiplying and adding pairs |
"""

from __future__ import annotations

from delegraph.delegates.cpu.ir import Function, Value, const, lanes_of, vector
from delegraph.delegates.cpu.isa import Target
from delegraph.delegates.cpu.kernels.mathematics import fma

GROUPS = {"f32": 1, "s8": 4, "u8": 4, "i16": 2}
"""Input elements of 4 bytes, by kind."""


def sum_type(kind: str, lanes: int) -> str:
    return vector(lanes, "float" if kind == "f32" else "i32")


def repeated(f: Function, kind: str, pointer: Value, lanes: int) -> Value:
    """One group of the input in all lanes, as the kind multiplies it."""
    if kind == "f32":
        return f.splat(f.load("float", pointer), lanes)
    value = f.splat(f.load("i32", pointer), lanes)
    return f.binary("xor", value, const(value.type, 0x80808080 - (1 << 32))) if kind == "s8" else value


def add_products(f: Function, target: Target, kind: str, total: Value, x: Value, weights: Value) -> Value:
    """``total + x · weights``, where ``x`` comes from ``repeated`` (or, for i16, is any vector of pairs)."""
    if kind == "f32":
        return fma(f, target, x, weights, total)
    if kind == "i16":
        return add_pairs(f, target, total, x, weights)
    bits = 32 * lanes_of(total.type)
    return f.call(f"llvm.x86.avx512.vpdpbusd.{bits}", total.type, total, x, weights)


def add_pairs(f: Function, target: Target, total: Value, x: Value, weights: Value) -> Value:
    """Adds to each int32 the two products of its int16 pairs; x, weights: int32 vectors that hold pairs."""
    lanes = lanes_of(total.type)
    bits = 32 * lanes
    if target.has_vnni:
        return f.call(f"llvm.x86.avx512.vpdpwssd.{bits}", total.type, total, x, weights)
    name = {512: "avx512.pmaddw.d.512", 256: "avx2.pmadd.wd", 128: "sse2.pmadd.wd"}[bits]
    pairs = [f.convert("bitcast", v, vector(2 * lanes, "i16")) for v in (x, weights)]
    return f.add(total, f.call(f"llvm.x86.{name}", total.type, *pairs))
