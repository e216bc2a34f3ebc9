"""The border around operators that users declare: what is wrong with a declaration, and with what its functions do.

delegraph's own kernels are tested, and called as they are. A user's are called with views that can't be written to, and
what they raise or return against the contract of ``OpDef`` is an error that names the op. Imports core.ops.opdef.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np

from delegraph.core.errors import CustomOpError, DelegraphError, InvalidArgument
from delegraph.core.graph.graph import Array, Shape
from delegraph.core.model.schema_table import ENUMS
from delegraph.core.ops.opdef import Constraint, Form, Kernel, Node, OpDef

T = TypeVar("T")

_BUILTINS = frozenset(ENUMS["BuiltinOperator"])


class _Result(NamedTuple):
    """What an array that a kernel returns must be. shape: None where the data decides."""

    name: str
    dtype: np.dtype[Any]
    shape: Shape | None

    def __str__(self) -> str:
        return f"{self.dtype}{'' if self.shape is None else list(self.shape)}"


# --- declarations ---------------------------------------------------------------------------------------------------


def check_declaration(op: object) -> None:
    """Raises InvalidArgument for a declaration that no model could be run with."""
    if not isinstance(op, OpDef):
        raise InvalidArgument("register_op", "an OpDef", _kind(op), "declare one: OpDef(name=..., ...)")
    if not isinstance(op.name, str) or not op.name:
        raise InvalidArgument("op", "a name: the custom code in the model", repr(op.name))
    where = f"op {op.name!r}"
    if not op.is_custom and op.name not in _BUILTINS:
        raise InvalidArgument(
            where, "is_custom=True, as TFLite has no builtin operator of that name", "is_custom=False", "pass it"
        )
    if op.host:
        raise InvalidArgument(where, "host='': core runs only its own operators itself", f"host={op.host!r}")
    for what, names in (("inputs", op.inputs), ("outputs", op.outputs)):
        if not _is_tuple_of(names, str):
            raise InvalidArgument(f"{where}: {what}", "a tuple of operand names", repr(names), "for example ('x',)")
    if not callable(op.shapes):
        raise InvalidArgument(f"{where}: shapes", "a function from Node to one shape per output", repr(op.shapes))
    if not _is_tuple_of(op.forms, Form) or not op.forms:
        advice = "for example (Form('float32 -> float32', prepare),)"
        raise InvalidArgument(f"{where}: forms", "a tuple of at least one Form", repr(op.forms), advice)


def _is_tuple_of(found: object, kind: type) -> bool:
    return isinstance(found, tuple | list) and all(isinstance(item, kind) for item in found)


# --- calls ----------------------------------------------------------------------------------------------------------


def guarded(op: OpDef) -> OpDef:
    """The operator with a border around its functions.

    What one of them raises becomes a CustomOpError, unless it is a DelegraphError (``node.expect``, ``node.require``).
    """
    shapes = _guarded_shapes(op)
    return replace(
        op,
        inputs=tuple(op.inputs),
        outputs=tuple(op.outputs),
        shapes=shapes,
        forms=tuple(_guarded_form(op, form, shapes) for form in op.forms),
        constraints=tuple(_guarded_constraint(constraint) for constraint in op.constraints),
        work=None if op.work is None else _blamed("its work function", op.work),
    )


def _guarded_shapes(op: OpDef) -> Callable[[Node], Sequence[Shape | None]]:
    function = _blamed("its shapes function", op.shapes)

    def shapes(node: Node) -> tuple[Shape | None, ...]:
        found = function(node)
        try:
            made = tuple(None if shape is None else tuple(map(operator.index, shape)) for shape in found)
        except TypeError:
            made = ()
        if len(made) != len(node.outputs) or any(size < 0 for shape in made for size in shape or ()):
            wanted = f"{_counted(len(node.outputs), 'shape')} in a list, None for one that the data decides"
            raise _error(node, f"expected its shapes function to return {wanted}, found {found!r}")
        return made

    return shapes


def _guarded_constraint(constraint: Constraint) -> Constraint:
    return replace(constraint, test=_blamed(f"its constraint {constraint.id!r}", constraint.test))


def _guarded_form(op: OpDef, form: Form, shapes: Callable[[Node], Sequence[Shape | None]]) -> Form:
    part = f"prepare of its form {form.types!r}"
    prepared = _blamed(part, form.prepare)

    def prepare(node: Node) -> Kernel:
        kernel = prepared(node)
        if not callable(kernel):
            raise _error(node, f"expected {part} to return a kernel, found {_kind(kernel)}")
        return _guarded_kernel(node, kernel, _expected(op, node, shapes(node)))

    when = None if form.when is None else _blamed(f"'when' of its form {form.types!r}", form.when)
    return replace(form, prepare=prepare, when=when)


def _expected(op: OpDef, node: Node, shapes: Sequence[Shape | None]) -> tuple[_Result, ...]:
    outputs = (
        _Result(f"output {i}", spec.dtype.numpy, shape)
        for i, (spec, shape) in enumerate(zip(node.outputs, shapes, strict=True))
    )
    variables = (
        _Result(f"the new value of input {slot}", spec.dtype.numpy, spec.shape)
        for slot, spec in ((slot, node.input(slot)) for slot in op.variables)
    )
    return *outputs, *variables


def _guarded_kernel(node: Node, kernel: Kernel, expected: Sequence[_Result]) -> Kernel:
    called = _blamed("its kernel", lambda _, *operands: kernel(*operands))

    def run(*operands: Array | None) -> Sequence[Array]:
        results = called(node, *(None if operand is None else _read_only(operand) for operand in operands))
        if not isinstance(results, tuple | list) or len(results) != len(expected):
            raise _wrong_number(node, results, len(expected))
        for result, wanted in zip(results, expected, strict=True):
            _check_result(node, result, wanted)
        return results

    return run


def _read_only(operand: Array) -> Array:
    view = np.asarray(operand).view()  # what another kernel made may be a scalar
    view.flags.writeable = False
    return view


def _wrong_number(node: Node, found: object, n_expected: int) -> CustomOpError:
    wanted = f"expected its kernel to return a tuple of {_counted(n_expected, 'array')}, found"
    if isinstance(found, np.ndarray):
        return _error(node, f"{wanted} an array", "return (y,)" if n_expected == 1 else "")
    return _error(node, f"{wanted} " + (f"{len(found)}" if isinstance(found, tuple | list) else _kind(found)))


def _check_result(node: Node, result: object, wanted: _Result) -> None:
    if not isinstance(result, np.ndarray | np.generic):
        raise _error(node, f"expected its kernel to return arrays, found {_kind(result)} as {wanted.name}")
    if result.dtype != wanted.dtype or wanted.shape not in (None, result.shape):
        found = f"{result.dtype}{list(result.shape)}"
        raise _error(node, f"expected its kernel to return {wanted} as {wanted.name}, found {found}")


def _blamed(part: str, function: Callable[..., T]) -> Callable[..., T]:
    """The function, whose first argument is the node; what it raises names the op and this part of it."""

    def call(node: Node, *args: Any) -> T:
        try:
            return function(node, *args)
        except (DelegraphError, MemoryError):
            raise
        except Exception as exc:  # a user's code
            advice = "operands can't be written to: return a new array" if "read-only" in str(exc) else ""
            raise _error(node, f"{part} raised {type(exc).__name__}: {exc}", advice) from exc

    return call


def _error(node: Node, what: str, advice: str = "") -> CustomOpError:
    return CustomOpError(node.op.place, node.op.name, what, advice)


def _kind(found: object) -> str:
    return "None" if found is None else type(found).__name__


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" + ("" if n == 1 else "s")
