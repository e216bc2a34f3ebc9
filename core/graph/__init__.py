"""Graph, Op, Tensor: the typed, immutable form of a model. Imports core.model."""

from delegraph.core.graph.build import build
from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Array, Graph, GraphSet, Op, Quantization, Shape, Signature, Tensor

__all__ = [
    "Array",
    "DType",
    "Graph",
    "GraphSet",
    "Op",
    "Quantization",
    "Shape",
    "Signature",
    "Tensor",
    "build",
]
