"""What a user needs to declare an operator: ``OpDef`` and its parts. See docs/custom-ops.md."""

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Quantization
from delegraph.core.ops import bounds
from delegraph.core.ops.opdef import Case, Constraint, Form, Node, OpDef, Operand, Result, TensorSpec, Work, packed
from delegraph.core.ops.registry import register_op

__all__ = [
    "Case",
    "Constraint",
    "DType",
    "Form",
    "Node",
    "OpDef",
    "Operand",
    "Quantization",
    "Result",
    "TensorSpec",
    "Work",
    "bounds",
    "packed",
    "register_op",
]
