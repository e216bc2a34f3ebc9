"""Rules on ops: those for all of them, and those that several lowerings share. Imports core.ops, lowering.

Each rule is one object with its sentence; messages, docs and tests are made from it.
"""

from __future__ import annotations

from collections.abc import Callable

from delegraph.core.graph.dtype import DType
from delegraph.core.ops.opdef import Node, TensorSpec
from delegraph.delegates.opencl.lowering import Rule
from delegraph.delegates.opencl.traits import Traits

MAX_ELEMENTS = 2**31 - 1
ACTIVATIONS = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6")


def _specs(node: Node) -> list[TensorSpec]:
    return [spec for spec in (*node.inputs, *node.outputs) if spec is not None]


def _empty(node: Node, traits: Traits) -> str | None:
    found = next((spec for spec in _specs(node) if spec.n_elements == 0 and len(spec.shape) > 0), None)
    # Operands that only say where to (the shape of a RESHAPE to a scalar) may be empty.
    if found is None or (found.value is not None and found.dtype is DType.INT32):
        return None
    return f"shape {list(found.shape)}"


def _too_many(node: Node, traits: Traits) -> str | None:
    most = max((spec.n_elements for spec in _specs(node)), default=0)
    return f"{most} elements" if most > MAX_ELEMENTS else None


def _too_large(node: Node, traits: Traits) -> str | None:
    most = max((spec.size_bytes for spec in _specs(node)), default=0)
    return f"{most} bytes where it takes {traits.max_buffer_bytes}" if most > traits.max_buffer_bytes else None


def _denormals(node: Node, traits: Traits) -> str | None:
    computes = any(spec.dtype is DType.FLOAT32 for spec in _specs(node))
    return "such a device" if computes and not traits.denormals else None


NOT_EMPTY = Rule("not_empty", "tensors must have elements", _empty)
INDEX_RANGE = Rule(
    "index_range", "tensors must have less than 2^31 elements", _too_many, limit=f"{MAX_ELEMENTS} elements"
)
BUFFER_SIZE = Rule("buffer_size", "a tensor must fit one allocation of the device", _too_large)
DENORMALS = Rule("denormals", "on some devices float32 numbers below 2^-126 count as 0", _denormals, deviates=True)

COMMON = (NOT_EMPTY, INDEX_RANGE, BUFFER_SIZE, DENORMALS)
"""Rules for every op."""


def _activation(node: Node, traits: Traits) -> str | None:
    found = int(node.options.fused_activation_function)
    return None if found < len(ACTIVATIONS) else f"activation {found}"


ACTIVATION = Rule("activation", f"the fused activation must be {', '.join(ACTIVATIONS)}", _activation)


def known(slot: int, name: str) -> Rule:
    """The rule that an operand is a constant."""

    def test(node: Node, traits: Traits) -> str | None:
        if not node.has_input(slot) or node.input(slot).value is not None:
            return None
        return "one that is computed"

    return Rule(f"constant_{name}", f"the {name} must be a constant", test, advice=f"store the {name} in the model")


def needs_fp64(dtypes: tuple[DType, ...], what: str) -> Rule:
    """The rule that a device has doubles, for an input of these types."""

    def test(node: Node, traits: Traits) -> str | None:
        return "a device without them" if node.input(0).dtype in dtypes and not traits.fp64 else None

    return Rule("fp64", f"{what} needs doubles (cl_khr_fp64)", test)


def less_accurate(error: str, inexact: Callable[[Traits], bool]) -> Rule:
    """The rule about a result that is farther from the reference's on devices for which ``inexact`` holds."""

    def test(node: Node, traits: Traits) -> str | None:
        return "a device without doubles" if node.input(0).dtype is DType.FLOAT32 and inexact(traits) else None

    return Rule("accuracy", f"results may be off by {error}", test, deviates=True)


DIVISION = less_accurate("3 units in the last place", lambda traits: not traits.exact_division)
"""For ops that divide or take square roots."""


def _inexact_division(node: Node, traits: Traits) -> str | None:
    return None if traits.exact_division else "a device that can't"


EXACT_DIVISION = Rule("division", "float32 division must be rounded correctly, or in doubles", _inexact_division)
"""For ops that divide on the way to integers, which have to be exact."""
