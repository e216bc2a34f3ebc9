"""The value that every FlatBuffer table of a model becomes: an immutable record driven by the schema.

Imports the generated schema only. Fields that a file leaves out read as the schema's default (None for an
absent string, vector or table), so a Table says what the file means, whether or not it spelled a default out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np

from delegraph.core.errors import InvalidArgument
from delegraph.core.model.field import Field
from delegraph.core.model.schema_table import TABLES, UNIONS

# For each table, what an absent field reads as.
DEFAULTS = {table: {name: field.default for name, field in TABLES[table].items()} for table in TABLES}


class Table:
    """One FlatBuffer table as an immutable value.

    Attributes are the schema's field names (``op.opcode_index``). Values: int, float, bool, str, Table, a
    tuple of Tables, a read-only numpy array (vector of scalars, often a view on the file), or None (absent).
    A union field ``x`` holds a Table (its ``type_name`` says which member) or None; there is no ``x_type``.

    When made by hand, a vector may be given as any sequence of numbers (or bytes), tables as any iterable;
    float32 scalars are rounded to what a file can hold:

    >>> Table("Tensor", shape=[1, 2], name="x")
    Tensor(shape=[1, 2], name='x')

    Raises:
        AttributeError: a field that the schema doesn't have.
        InvalidArgument: a value that the field can't hold.
    """

    __slots__ = ("type_name", "_fields")
    type_name: str
    _fields: dict[str, Any]  # every field of the schema, in its order

    def __init__(self, type_name: str, /, **fields: Any) -> None:
        schema = TABLES[type_name]
        complete = dict(DEFAULTS[type_name])
        for name, value in fields.items():
            if name not in schema:
                raise AttributeError(f"{type_name} has no field {name!r}; it has {', '.join(schema)}")
            complete[name] = value if value is None else _value(f"{type_name}.{name}", schema[name], value)
        object.__setattr__(self, "type_name", type_name)
        object.__setattr__(self, "_fields", complete)

    @classmethod
    def of(cls, type_name: str, fields: dict[str, Any]) -> Table:
        """A Table over the right values of all its fields, in the schema's order; it owns the dict."""
        table = object.__new__(cls)
        object.__setattr__(table, "type_name", type_name)
        object.__setattr__(table, "_fields", fields)
        return table

    @property
    def fields(self) -> Mapping[str, Any]:
        """The fields that differ from the schema's default, by name, in the schema's order."""
        defaults = DEFAULTS[self.type_name]
        return {name: value for name, value in self if not same(value, defaults[name])}

    def __getattr__(self, name: str) -> Any:
        try:
            return self._fields[name]
        except KeyError:
            raise AttributeError(f"{self.type_name} has no field {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{self.type_name} is immutable; use replace({name}=...)")

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(self._fields.items())

    def replace(self, **changes: Any) -> Table:
        """A copy with some fields changed."""
        return Table(self.type_name, **{**self._fields, **changes})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Table):
            return NotImplemented
        if self.type_name != other.type_name:
            return False
        return all(same(a, b) for (_, a), (_, b) in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # holds arrays

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.type_name, self._fields)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={_brief(value)}" for name, value in self.fields.items())
        return f"{self.type_name}({shown})"


def same(a: Any, b: Any) -> bool:
    """Whether two field values are the same to the bit (-0.0 is not 0.0; every NaN is the same scalar)."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        if a is None or b is None:
            return False
        a, b = np.asarray(a), np.asarray(b)
        if a.shape != b.shape or a.dtype != b.dtype:
            return False
        # Compared as bytes in place: constants are large, and NaNs must equal themselves.
        return bool(np.array_equal(_bytes(a), _bytes(b)))
    if isinstance(a, float) and isinstance(b, float):
        return (a == b and math.copysign(1, a) == math.copysign(1, b)) or (a != a and b != b)
    return type(a) is type(b) and bool(a == b)


def _bytes(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _value(where: str, field: Field, value: Any) -> Any:
    """Value in the form that the reader gives: plain Python scalars, read-only vectors, tuples of tables."""
    if field.kind == "scalar":
        return _scalar(where, field.dtype, value)
    if field.kind == "vector":
        return _vector(where, field.dtype, value)
    if field.kind == "string":
        if not isinstance(value, str):
            raise InvalidArgument(where, "a string", repr(value))
        return value
    allowed = UNIONS[field.type_name] if field.kind == "union" else (field.type_name,)
    tables = tuple(value) if field.kind == "tables" else (value,)
    for table in tables:
        if not isinstance(table, Table) or table.type_name not in allowed:
            raise InvalidArgument(where, f"a table {field.type_name}", repr(table))
    return tables if field.kind == "tables" else value


def _scalar(where: str, dtype: str, value: Any) -> bool | int | float:
    if dtype == "bool" and isinstance(value, bool | np.bool_):
        return bool(value)
    if dtype.startswith("float") and isinstance(value, Real):
        return float(np.float32(value)) if dtype == "float32" else float(value)
    if "int" in dtype and isinstance(value, Integral) and not isinstance(value, bool):
        number, limits = int(value), np.iinfo(dtype)
        if limits.min <= number <= limits.max:
            return number
    raise InvalidArgument(where, dtype, repr(value))


def _vector(where: str, dtype: str, value: Any) -> np.ndarray:
    if isinstance(value, bytes | bytearray | memoryview):
        value = np.frombuffer(value, np.uint8)
    array = np.asarray(value)
    if array.ndim != 1:
        raise InvalidArgument(where, "a vector", f"shape {array.shape}")
    if array.dtype != dtype:
        kinds = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}[np.dtype(dtype).kind]
        cast = array.astype(dtype) if array.size == 0 or array.dtype.kind in kinds else None
        if cast is None or (array.dtype.kind in "iu" and not np.array_equal(cast, array)):
            raise InvalidArgument(where, f"{dtype} elements", f"{array.dtype} {_brief(array)}")
        array = cast
    view = array.view()
    view.flags.writeable = False
    return view


def _rebuild(type_name: str, fields: dict[str, Any]) -> Table:
    return Table(type_name, **fields)


def _brief(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.size > 8:
        return f"<{value.size} x {value.dtype}>"
    if isinstance(value, tuple) and len(value) > 8:
        return f"<{len(value)} x {type(value[0]).__name__}>"
    return repr(value.tolist() if isinstance(value, np.ndarray) else value)
