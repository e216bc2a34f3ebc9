"""Every family of kernels with examples, so that tests and benchmarks reach a new one by its being listed here.

Examples are small and awkward on purpose: sizes that no vector divides, borders, one of everything.
"""

from __future__ import annotations

from dataclasses import dataclass

from delegraph.core.ops.expression import arg, call
from delegraph.delegates.cpu.isa import Target
from delegraph.delegates.cpu.kernels.depthwise import Depthwise
from delegraph.delegates.cpu.kernels.elementwise import (
    Dequantize,
    Elementwise,
    Formula,
    Quantize,
    QuantizedProduct,
    QuantizedSum,
    Stream,
    Widen,
)
from delegraph.delegates.cpu.kernels.gemm import Gemm
from delegraph.delegates.cpu.kernels.kernel import Kernel
from delegraph.delegates.cpu.kernels.movement import Copy, Fill, LookUp, Pad
from delegraph.delegates.cpu.kernels.pooling import Pool
from delegraph.delegates.cpu.kernels.reduction import Mean
from delegraph.delegates.cpu.kernels.resize import Bilinear, Nearest
from delegraph.delegates.cpu.kernels.softmax import SoftmaxBytes, SoftmaxFloat


@dataclass(frozen=True)
class Family:
    """Kernels of one class, with examples."""

    kind: type
    examples: tuple[Kernel, ...]

    def examples_for(self, target: Target) -> list[Kernel]:
        """The examples that a target can compile."""
        return [k for k in self.examples if _fits(k, target)]


def _fits(kernel: Kernel, target: Target) -> bool:
    if isinstance(kernel, Gemm | Depthwise) and kernel.lanes > target.lanes:
        return False
    return not isinstance(kernel, Gemm) or kernel.dot not in ("s8", "u8") or target.has_vnni


def _gemm(dot: str, lanes: int, finish: str, *, row_sums: bool = False, mr: int = 3, nv: int = 2) -> Gemm:
    size = {"f32": 4, "i16": 2}.get(dot, 1)
    out = 4 if dot == "f32" else 1
    return Gemm(
        "conv_2d",
        dot,
        lanes,
        1,
        2,
        5,
        37,
        9,
        ((3, 64 * size),),
        (0, 64 * size, 3 * size),
        (0, 185 * out, 37 * out),
        finish,
        row_sums,
        mr,
        nv,
        True,
    )


def _depthwise(dot: str, lanes: int, finish: str, window: tuple[int, int]) -> Depthwise:
    size = 4 if dot == "f32" else 1
    row = 9 * 35 * size
    strides = (0, row, 35 * size)
    return Depthwise(
        dot, lanes, 1, 3, 5, 35, window, strides, (0, 5 * 35 * size, 35 * size), (row, 35 * size), finish, 4
    )


_FLOATS = Stream("float", ())
_BYTES = Stream("i8", ())

FAMILIES: tuple[Family, ...] = (
    Family(
        Gemm,
        tuple(_gemm("f32", lanes, finish) for lanes in (4, 8, 16) for finish in ("plain", "clamp"))
        + tuple(_gemm("i16", lanes, finish) for lanes in (4, 8, 16) for finish in ("fast", "general", "double"))
        + tuple(_gemm(dot, 16, "fast", row_sums=sums) for dot in ("s8", "u8") for sums in (False, True))
        + (_gemm("f32", 16, "plain", mr=5, nv=3), _gemm("s8", 8, "general")),
    ),
    Family(
        Depthwise,
        tuple(_depthwise("f32", lanes, "clamp", (3, 3)) for lanes in (4, 8, 16))
        + tuple(_depthwise(dot, lanes, "fast", (3, 3)) for dot in ("s8", "u8") for lanes in (4, 8, 16))
        + (_depthwise("s8", 4, "general", (9, 5)), _depthwise("f32", 4, "plain", (9, 5))),
    ),
    Family(
        Elementwise,
        (
            Elementwise(Formula("EXP", call("exp", arg(0))), _FLOATS, (_FLOATS,), (37,)),
            Elementwise(Formula("TANH", call("tanh", arg(0))), _FLOATS, (_FLOATS,), (37,)),
            Elementwise(Formula("ADD", arg(0) + arg(1), clamps=True), _FLOATS, (_FLOATS, _FLOATS), (37,)),
            Elementwise(
                Formula("MUL", arg(0) * arg(1)),
                Stream("float", (148, 28)),
                (Stream("float", (0, 28)), Stream("float", (4, 0), inner=False)),
                (3, 5, 7),
            ),
            Elementwise(QuantizedSum("ADD", "i8", 20), _BYTES, (_BYTES, _BYTES), (37,)),
            Elementwise(QuantizedProduct("i8"), _BYTES, (_BYTES, _BYTES), (37,)),
            Elementwise(Quantize("i8"), _BYTES, (_FLOATS,), (37,)),
            Elementwise(Dequantize("u8"), _FLOATS, (Stream("u8", ()),), (37,)),
            Elementwise(Widen("u8"), Stream("i16", ()), (Stream("u8", ()),), (37,)),
        ),
    ),
    Family(Copy, (Copy((3, 5), (100, 20), (60, 12), 11), Copy((), (), (), 1))),
    Family(Fill, (Fill((3,), (100,), 68, "i32"), Fill((), (), 7))),
    Family(LookUp, (LookUp(3), LookUp(131))),
    Family(Pad, (Pad(2, 3, 10, 40, 7, 44), Pad(1, 1, 5, 0, 3, 9))),
    Family(
        Pool,
        tuple(
            Pool(kind, element, 1, (7, 3, 2, 1, 4), (6, 2, 2, 0, 3), 19)
            for kind in ("average", "max")
            for element in ("float", "i8", "u8")
        ),
    ),
    Family(
        Mean,
        (
            Mean("float", ((19, 4),), ((12, 76),)),
            Mean("i8", ((5, 60),), ((60, 1),)),
            Mean("u8", ((2, 57), (19, 1)), ((3, 19),)),
        ),
    ),
    Family(SoftmaxFloat, (SoftmaxFloat(3, 37), SoftmaxFloat(2, 1))),
    Family(SoftmaxBytes, (SoftmaxBytes("i8", 3, 37), SoftmaxBytes("u8", 1, 300))),
    Family(Bilinear, tuple(Bilinear(e, 1, 200, 5, 6, 3) for e in ("float", "u8", "i8"))),
    Family(Nearest, (Nearest(2, 60, 5, 6, 12),)),
)


def all_kernels(target: Target) -> list[Kernel]:
    """Every example that a target can compile."""
    return [kernel for family in FAMILIES for kernel in family.examples_for(target)]
