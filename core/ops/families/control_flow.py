"""IF, WHILE, CALL_ONCE, STABLEHLO_COMPOSITE and resource variables: ops that core runs itself.

They have no kernels here: core.runtime.control says what they do. Source: tflite/kernels/{if,while,call_once,
stablehlo_composite,var_handle,read_variable,assign_variable}.cc.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from delegraph.core.graph.dtype import DType
from delegraph.core.graph.graph import Shape
from delegraph.core.ops.opdef import Constraint, Node, OpDef

# --- shapes -------------------------------------------------------------------------------------------------------


def _by_called_graphs(node: Node) -> Sequence[Shape | None]:
    """Known once the called graphs are planned: core asks them instead of this function."""
    return [None] * len(node.outputs)


def _handle_shape(node: Node) -> Sequence[Shape | None]:
    """As the file says, if one number fits there: LiteRT gives a handle memory whatever its shape is."""
    shape = node.outputs[0].shape
    return [shape if math.prod(shape) == 1 else (1,)]


def _as_the_file_says(node: Node) -> Sequence[Shape | None]:
    return [node.outputs[0].shape]


def _nothing(node: Node) -> Sequence[Shape | None]:
    return []


# --- constraints --------------------------------------------------------------------------------------------------


def _not_a_handle(node: Node) -> str | None:
    spec = node.input(0)
    return None if spec.dtype is DType.RESOURCE else str(spec.dtype)


def _loop_mismatch(node: Node) -> str | None:
    counts = len(node.inputs), len(node.outputs)
    return None if counts[0] == counts[1] else f"{counts[0]} inputs and {counts[1]} outputs"


_HANDLE = Constraint("handle", "the first operand has to be a resource handle", _not_a_handle)
_LOOP = Constraint("loop_values", "a loop has to have as many outputs as inputs", _loop_mismatch)

# --- declarations -------------------------------------------------------------------------------------------------

IF = OpDef(
    name="IF",
    inputs=("condition", "values*"),
    outputs=("results*",),
    options="IfOptions",
    shapes=_by_called_graphs,
    forms=(),
    host="control",
)

WHILE = OpDef(
    name="WHILE",
    inputs=("values*",),
    outputs=("results*",),
    options="WhileOptions",
    shapes=_by_called_graphs,
    forms=(),
    constraints=(_LOOP,),
    host="control",
)

CALL_ONCE = OpDef(
    name="CALL_ONCE",
    inputs=(),
    outputs=(),
    options="CallOnceOptions",
    shapes=_nothing,
    forms=(),
    host="control",
)

STABLEHLO_COMPOSITE = OpDef(
    name="STABLEHLO_COMPOSITE",
    inputs=("values*",),
    outputs=("results*",),
    options="StableHLOCompositeOptions",
    shapes=_by_called_graphs,
    forms=(),
    host="control",
)

VAR_HANDLE = OpDef(
    name="VAR_HANDLE",
    inputs=(),
    outputs=("handle",),
    options="VarHandleOptions",
    shapes=_handle_shape,
    forms=(),
    host="resource",
)

READ_VARIABLE = OpDef(
    name="READ_VARIABLE",
    inputs=("handle",),
    outputs=("value",),
    options="ReadVariableOptions",
    shapes=_as_the_file_says,
    forms=(),
    constraints=(_HANDLE,),
    host="resource",
)

ASSIGN_VARIABLE = OpDef(
    name="ASSIGN_VARIABLE",
    inputs=("handle", "value"),
    outputs=(),
    options="AssignVariableOptions",
    shapes=_nothing,
    forms=(),
    constraints=(_HANDLE,),
    host="resource",
)

OPS = (IF, WHILE, CALL_ONCE, STABLEHLO_COMPOSITE, VAR_HANDLE, READ_VARIABLE, ASSIGN_VARIABLE)
