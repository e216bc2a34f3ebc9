"""Where LiteRT 2.3.0's reference kernels are no oracle, or do what nobody would guess: one table. Imports nothing.

``python -m tools.ops_table`` prints it behind the table of operators; the op-by-op oracle asks it which kernels to
compare with.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Stand(Enum):
    """What stands in the reference kernels' place."""

    BUILTIN = "LiteRT's optimised kernels are the oracle"
    COPIED = "copied, as surprising as it is"
    OURS = "delegraph gives the sensible result, or refuses"


@dataclass(frozen=True, slots=True)
class Erratum:
    """op: names, comma-separated. what: what LiteRT does. stand: what delegraph does instead, or that it does the same.
    is_missing: the reference resolver has no kernel for the op at all."""

    op: str
    what: str
    stand: Stand
    is_missing: bool = False


_B, _C, _O = Stand.BUILTIN, Stand.COPIED, Stand.OURS

ERRATA: tuple[Erratum, ...] = (
    Erratum("CEIL, ELU, ROUND, SEGMENT_SUM", "no kernel in the reference resolver", _B, is_missing=True),
    Erratum("STRIDED_SLICE", "versions 5 to 8 are not in the reference resolver", _B),
    Erratum("TILE", "version 3 is not in the reference resolver", _B),
    Erratum("DEPTH_TO_SPACE, SPACE_TO_DEPTH", "version 2 is not in the reference resolver", _B),
    Erratum("RANGE", "int64 (version 2) is not in the reference resolver", _B),
    Erratum("SUM", "int8 is read as uint8, so most results are -1", _B),
    Erratum("SUM", "int16 depends on memory that was never written", _O),
    Erratum("REDUCE_PROD", "a quantized product of nothing leaves the output unwritten", _O),
    Erratum("ARG_MAX, ARG_MIN", "float rows of 4 or more go wrong if a lane of four is all NaN", _O),
    Erratum("REDUCE_MAX, REDUCE_MIN", "NaN loses unless it is the first element of a full reduction", _C),
    Erratum("REDUCE_MAX, REDUCE_MIN", "the maximum of nothing but -inf is the lowest float (mirrored for MIN)", _C),
    Erratum("NON_MAX_SUPPRESSION_V4, NON_MAX_SUPPRESSION_V5", "a box without area is selected over and over", _C),
    Erratum("LOCAL_RESPONSE_NORMALIZATION", "the window is one channel short on the right", _C),
    Erratum("RESIZE_BILINEAR", "integers read out of bounds at large zoom", _O),
    Erratum("MATRIX_SET_DIAG", "a diagonal of the wrong shape is read unchecked", _O),
    Erratum("TRANSPOSE", "a scalar's output is unwritten; repeated axes and int64 axes are read wildly", _O),
    Erratum("GATHER", "int4 with an odd inner size copies whole bytes", _O),
    Erratum("STRIDED_SLICE", "an ellipsis takes at least one axis, so surplus entries are dropped", _C),
    Erratum("REVERSE_SEQUENCE", "only the first length is checked, others write out of bounds", _O),
    Erratum("ONE_HOT", "int64 indices are cut to 32 bits", _C),
    Erratum("QUANTIZE", "float values beyond int32 wrap: with a negative zero point they land on the maximum", _C),
    Erratum("HARD_SWISH", "a shift past 15 bits never gives 0", _C),
    Erratum("TANH", "C libraries round tanhf differently in the last place: rarely one step in 8-bit tables", _O),
    Erratum("SOFTMAX", "int8 aborts the process when the sum of exponentials reaches 512", _O),
    Erratum("LOG_SOFTMAX, SOFTMAX", "int8 rows of thousands of equal values overflow 32 bits", _O),
    Erratum("FULLY_CONNECTED", "with no inputs at all the result is 0, whatever the bias", _C),
    Erratum("FULLY_CONNECTED", "an input that is no multiple of the depth is cut short silently", _O),
    Erratum("CONV_2D", "a missing bias is refused, though the schema allows it", _O),
    Erratum("MUL, ADD, SUB", "multipliers of 2^32 and more shift by their low five bits (x86)", _C),
)

NOT_IN_REFERENCE = frozenset(name for erratum in ERRATA if erratum.is_missing for name in erratum.op.split(", "))
"""Ops whose oracle is the optimised kernel whatever the form."""
