"""Name → OpDef. Imports core.ops.opdef and custom; loads the families when an op is first looked up."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

from delegraph.core.errors import InvalidArgument
from delegraph.core.forks import RenewedLock
from delegraph.core.ops.custom import check_declaration, guarded
from delegraph.core.ops.expression import Expression
from delegraph.core.ops.opdef import OpDef

_ops: dict[str, OpDef] = {}
_registered: dict[str, OpDef] = {}
"""Those that users registered, as they wrote them."""
_guard = RenewedLock()
_loaded = False


def register_op(op: OpDef, *, replace: bool = False) -> OpDef:
    """Make an operator known, so that models with it can be compiled; returns it.

    replace: put it in the place of one of that name that was registered before. A model that is compiled already keeps
    the old one for the input shapes that it has been planned for; compile it again to use the new one.

    Raises:
        InvalidArgument: another OpDef has that name already, or the declaration is incomplete.
    """
    check_declaration(op)
    with _guard.lock:
        _load()
        if op.name in _ops:
            if _registered.get(op.name) is op:
                return op
            _check_replaced(op.name, replace)
        _ops[op.name] = guarded(op)
        _registered[op.name] = op
        return op


def _check_replaced(name: str, replace: bool) -> None:
    where, expected = f"op {name!r}", "a name of its own"
    if name not in _registered:
        raise InvalidArgument(where, expected, "an op of that name is registered already: one of delegraph's own")
    if not replace:
        advice = "pass replace=True to put this one in its place, and compile the models with it again"
        raise InvalidArgument(where, expected, "an op of that name is registered already", advice)


def find(name: str) -> OpDef | None:
    """The OpDef of that name, or None."""
    _load()
    return _ops.get(name)


def all_ops() -> Iterator[OpDef]:
    """Every OpDef, by name."""
    _load()
    return iter(sorted(_ops.values(), key=lambda op: op.name))


def expression_of(name: str) -> Expression:
    """The formula of an elementwise op, which it must have."""
    op = find(name)
    assert op is not None and op.expression is not None, name
    return op.expression


def _load() -> None:
    """Import every module of core.ops.families; each has ``OPS``, a tuple of its OpDefs."""
    global _loaded
    if _loaded:
        return
    with _guard.lock:
        if _loaded:
            return
        from delegraph.core.ops import families

        for module in pkgutil.iter_modules(families.__path__):
            for op in importlib.import_module(f"{families.__name__}.{module.name}").OPS:
                assert op.name not in _ops, op.name
                _ops[op.name] = op
        _loaded = True
