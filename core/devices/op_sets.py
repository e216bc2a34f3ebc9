"""What NNAPI takes of TensorFlow Lite's operators, by feature level, as rules. Imports core.graph.

One line an operator: the NNAPI operation it becomes, ``"level: types"`` of its data (F float32, I int32, U uint8,
S int8, B bool), and rules; ``below`` holds rules that end with a feature level. Source: AOSP
packages/modules/NeuralNetworks, tools/api/types.spec and NeuralNetworksTypes.h (OperationCode, types by level);
LiteRT tflite/delegates/nnapi/nnapi_delegate.cc, NNAPIDelegateKernel::Validate (rules beyond types). float16 tensors
exist in NNAPI from level 3, but TensorFlow Lite hands it none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from delegraph.core.graph.dtype import DType

LEVELS = range(1, 9)

TYPES = {"F": DType.FLOAT32, "I": DType.INT32, "U": DType.UINT8, "S": DType.INT8, "B": DType.BOOL}

Rules = dict[str, Any]


@dataclass(frozen=True, slots=True)
class NnapiOp:
    """operation: its name in NNAPI, or several joined with "+" where TFLite's delegate composes it. below: level →
    rules that hold under that level only."""

    operation: str
    types: str
    rules: Rules = field(default_factory=dict)
    below: Mapping[int, Rules] = field(default_factory=dict)

    @property
    def level(self) -> int:
        """The first level that has it."""
        return int(self.types.partition(":")[0])

    def dtypes(self, level: int) -> tuple[DType, ...]:
        """The types that its data may have at a level."""
        found = []
        for part in self.types.split(";"):
            since, _, letters = part.partition(":")
            if int(since) <= level:
                found += [TYPES[letter] for letter in letters.split()]
        return tuple(found)

    def limits(self, level: int) -> dict[str, Any]:
        """The rules at a level, with their limits."""
        found: dict[str, Any] = {"dtypes": self.dtypes(level), **self.rules}
        for end, rules in self.below.items():
            if level < end:
                found |= rules
        return found


_4D: Rules = {"rank": 4}
_SAME: Rules = {"rank": 4, "same_quantization": True}
_ACTIVATIONS = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6")
_BINARY: Rules = {"rank": 4, "activation": _ACTIVATIONS}
_INT_BINARY: Rules = _BINARY | {"unfused_int32": True}
_CONV: Rules = {"rank": 4, "activation": _ACTIVATIONS, "has_bias": True}
_POOL: Rules = {"rank": 4, "activation": _ACTIVATIONS, "same_quantization": True}
_FLOAT_POOL: Rules = {"rank": 4, "activation": _ACTIVATIONS}
_OLD_CONV: Mapping[int, Rules] = {3: {"dilation": 1, "per_tensor_weights": True, "not_hybrid": True, "ungrouped": True}}
_OLD_DEPTHWISE: Mapping[int, Rules] = {3: {"dilation": 1, "per_tensor_weights": True, "not_hybrid": True}}
_REDUCE: Rules = {"rank": 4, "same_quantization": True, "no_scalar_result": True, "constants": (1,)}
_ARG: Rules = {"rank": 4, "constants": (1,), "output_dtypes": (DType.INT32,)}
_RESIZE: Rules = {"rank": 4, "same_quantization": True, "constants": (1,)}
_COMPARE = "3: B F I U; 4: S"
_F8 = "1: F U; 4: S"
_F8_2 = "2: F U; 4: S"
_ANY = "3: F I U; 4: S"
_FLOAT_3 = "3: F"

OPS: Mapping[str, NnapiOp] = {
    "ABS": NnapiOp("ABS", "3: F; 4: I", _4D),
    "ADD": NnapiOp("ADD", "1: F U; 4: S I", _INT_BINARY),
    "ARG_MAX": NnapiOp("ARGMAX", _ANY, _ARG),
    "ARG_MIN": NnapiOp("ARGMIN", _ANY, _ARG),
    "AVERAGE_POOL_2D": NnapiOp("AVERAGE_POOL_2D", _F8, _POOL),
    "BATCH_MATMUL": NnapiOp("BATCH_MATMUL", "6: F S I", {"rank": 4, "equal_shapes": True, "equal_dtypes": True}),
    "BATCH_TO_SPACE_ND": NnapiOp(
        "BATCH_TO_SPACE_ND", _F8_2, _SAME | {"no_crops": True, "block_rank": 2, "constants": (1, 2)}
    ),
    "CAST": NnapiOp(
        "CAST",
        _ANY,
        {"rank": 4, "output_dtypes": (DType.FLOAT32, DType.INT32, DType.UINT8, DType.INT8)},
        {4: {"output_dtypes": (DType.FLOAT32, DType.INT32, DType.UINT8)}},
    ),
    "CONCATENATION": NnapiOp(
        "CONCATENATION", _F8, {"rank": 4, "activation": ("NONE",)}, {3: {"same_quantization": True}}
    ),
    "CONV_2D": NnapiOp("CONV_2D", _F8, _CONV, _OLD_CONV),
    "COS": NnapiOp("SUB+SIN", _FLOAT_3, _4D),
    "DEPTHWISE_CONV_2D": NnapiOp("DEPTHWISE_CONV_2D", _F8, _CONV, _OLD_DEPTHWISE),
    "DEPTH_TO_SPACE": NnapiOp("DEPTH_TO_SPACE", _F8, _SAME),
    "DEQUANTIZE": NnapiOp("DEQUANTIZE", "1: U; 4: S", _4D),
    "DIV": NnapiOp("DIV", "2: F", _BINARY),
    "ELU": NnapiOp("ELU", "4: F", _4D),
    "EMBEDDING_LOOKUP": NnapiOp("EMBEDDING_LOOKUP", "1: F", _4D),
    "EXP": NnapiOp("EXP", _FLOAT_3, _4D),
    "EXPAND_DIMS": NnapiOp("EXPAND_DIMS", _ANY, _SAME | {"constants": (1,)}),
    "FILL": NnapiOp("FILL", "4: F I", {"rank": 4, "constants": (0,)}),
    "FLOOR": NnapiOp("FLOOR", "1: F", _4D),
    "FULLY_CONNECTED": NnapiOp(
        "FULLY_CONNECTED",
        _F8,
        {"rank": 4, "activation": _ACTIVATIONS, "default_weights_format": True},
        {3: {"not_hybrid": True, "per_tensor_weights": True}},
    ),
    "GATHER": NnapiOp("GATHER", _ANY, _SAME | {"indices_rank": 1, "no_batch_dims": True}),
    "HARD_SWISH": NnapiOp("HARD_SWISH", _F8, _4D),
    "L2_NORMALIZATION": NnapiOp("L2_NORMALIZATION", "1: F; 3: U; 4: S", {"rank": 4, "activation": ("NONE",)}),
    "L2_POOL_2D": NnapiOp("L2_POOL_2D", "1: F", _FLOAT_POOL, {3: {"activation": ("NONE",)}}),
    "LEAKY_RELU": NnapiOp("PRELU", _F8.replace("1", "3"), _4D),
    "LOCAL_RESPONSE_NORMALIZATION": NnapiOp("LOCAL_RESPONSE_NORMALIZATION", "1: F", _4D),
    "LOG": NnapiOp("LOG", _FLOAT_3, _4D),
    "LOGICAL_AND": NnapiOp("LOGICAL_AND", "3: B", _4D),
    "LOGICAL_NOT": NnapiOp("LOGICAL_NOT", "3: B", _4D),
    "LOGICAL_OR": NnapiOp("LOGICAL_OR", "3: B", _4D),
    "LOGISTIC": NnapiOp("LOGISTIC", _F8, _4D),
    "LOG_SOFTMAX": NnapiOp("LOG_SOFTMAX", _FLOAT_3, _4D),
    "MAXIMUM": NnapiOp("MAXIMUM", _ANY, _4D),
    "MAX_POOL_2D": NnapiOp("MAX_POOL_2D", _F8, _POOL),
    "MEAN": NnapiOp("MEAN", "2: F; 3: U; 4: S", _REDUCE),
    "MINIMUM": NnapiOp("MINIMUM", _ANY, _4D),
    "MIRROR_PAD": NnapiOp("MIRROR_PAD", "7: F U S I", _SAME | {"constants": (1,)}),
    "MUL": NnapiOp("MUL", "1: F U; 4: S I", _INT_BINARY),
    "NEG": NnapiOp("NEG", "3: F I", _4D),
    "PACK": NnapiOp("PACK", "4: F U S", {"rank": 4, "not_packed_last": True, "same_quantization": True}),
    "PAD": NnapiOp("PAD", "2: F; 3: U; 4: S", _SAME | {"constants": (1,)}),
    "PADV2": NnapiOp("PAD_V2", "3: F U; 4: S", _SAME | {"constants": (1, 2)}),
    "POW": NnapiOp("POW", _FLOAT_3, _4D),
    "PRELU": NnapiOp("PRELU", "3: F U; 4: S", _4D),
    "QUANTIZE": NnapiOp(
        "QUANTIZE",
        "3: F U; 4: S",
        {"rank": 4, "output_dtypes": (DType.UINT8, DType.INT8)},
        {4: {"output_dtypes": (DType.UINT8,)}},
    ),
    "REDUCE_ANY": NnapiOp("REDUCE_ANY", "3: B", _REDUCE),
    "REDUCE_MAX": NnapiOp("REDUCE_MAX", "3: F U; 4: S", _REDUCE),
    "REDUCE_MIN": NnapiOp("REDUCE_MIN", "3: F U; 4: S", _REDUCE),
    "REDUCE_PROD": NnapiOp("REDUCE_PROD", _FLOAT_3, _REDUCE),
    "RELU": NnapiOp("RELU", _F8, _4D),
    "RELU6": NnapiOp("RELU6", _F8, _4D),
    "RELU_N1_TO_1": NnapiOp("RELU1", _F8, _4D),
    "RESHAPE": NnapiOp("RESHAPE", "1: F U; 4: S; 6: I", _SAME | {"constants": (1,), "no_scalars": True}),
    "RESIZE_BILINEAR": NnapiOp("RESIZE_BILINEAR", "1: F; 3: U; 4: S", _RESIZE),
    "RESIZE_NEAREST_NEIGHBOR": NnapiOp("RESIZE_NEAREST_NEIGHBOR", "3: F U; 4: S", _RESIZE),
    "REVERSE_V2": NnapiOp("REVERSE", "7: F U S I", _SAME | {"constants": (1,)}),
    "RSQRT": NnapiOp("RSQRT", "3: F; 7: U S", _4D),
    "SELECT": NnapiOp("SELECT", _ANY, {"rank": 4, "equal_shapes": True}),
    "SIN": NnapiOp("SIN", _FLOAT_3, _4D),
    "SLICE": NnapiOp("SLICE", _ANY, _SAME),
    "SOFTMAX": NnapiOp("SOFTMAX", _F8, {"rank": 4, "positive_beta": True}),
    "SPACE_TO_BATCH_ND": NnapiOp("SPACE_TO_BATCH_ND", _F8_2, _SAME | {"block_rank": 2, "constants": (1, 2)}),
    "SPACE_TO_DEPTH": NnapiOp("SPACE_TO_DEPTH", _F8, _SAME),
    "SPLIT": NnapiOp("SPLIT", _ANY, _SAME | {"constants": (0,)}),
    "SPLIT_V": NnapiOp("SLICE", "4: F I U S", _SAME | {"constants": (1, 2)}),
    "SQRT": NnapiOp("SQRT", _FLOAT_3, _4D),
    "SQUARED_DIFFERENCE": NnapiOp("SUB+MUL", "2: F; 3: U; 4: S I", _4D),
    "SQUEEZE": NnapiOp("SQUEEZE", _F8_2, _SAME | {"no_scalars": True}),
    "STRIDED_SLICE": NnapiOp(
        "STRIDED_SLICE", _F8_2, _SAME | {"masks": ("begin", "end", "shrink_axis"), "no_scalars": True}
    ),
    "SUB": NnapiOp("SUB", "2: F; 3: U; 4: S I", _INT_BINARY),
    "SUM": NnapiOp("REDUCE_SUM", _FLOAT_3, _REDUCE),
    "TANH": NnapiOp("TANH", "1: F; 3: U; 4: S", _4D),
    "TILE": NnapiOp("TILE", _ANY, _4D),
    "TOPK_V2": NnapiOp("TOPK_V2", _ANY, {"rank": 4, "constants": (1,)}),
    "TRANSPOSE": NnapiOp("TRANSPOSE", _F8_2, _SAME | {"constants": (1,)}),
    "TRANSPOSE_CONV": NnapiOp(
        "TRANSPOSE_CONV_2D", "3: F U; 4: S", {"rank": 4, "activation": _ACTIVATIONS, "constants": (0, 1)}
    ),
    "UNPACK": NnapiOp("SPLIT+RESHAPE", "4: F U S", _SAME | {"no_scalars": True}),
    **{
        name: NnapiOp(name, _COMPARE, _4D)
        for name in ("EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "NOT_EQUAL")
    },
}


def level_of(name: str) -> int | None:
    """The feature level from which NNAPI has an operator; None where none does."""
    op = OPS.get(name)
    return None if op is None else op.level
