"""Name → OpDef. Imports core.ops.opdef; loads the families when an op is first looked up."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

from delegraph.core.errors import InvalidArgument
from delegraph.core.forks import RenewedLock
from delegraph.core.ops.expression import Expression
from delegraph.core.ops.opdef import OpDef

_ops: dict[str, OpDef] = {}
_guard = RenewedLock()
_loaded = False


def register_op(op: OpDef) -> OpDef:
    """Make an operator known, so that models with it can be compiled; returns it.

    Raises:
        InvalidArgument: another OpDef has that name already.
    """
    with _guard.lock:
        _load()
        return _add(op)


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


def _add(op: OpDef) -> OpDef:
    if op.name in _ops and _ops[op.name] is not op:
        raise InvalidArgument(f"op {op.name!r}", "a name of its own", "an op of that name is registered already")
    _ops[op.name] = op
    return op


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
                _add(op)
        _loaded = True
