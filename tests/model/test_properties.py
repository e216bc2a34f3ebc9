"""Tables of any kind with any values come back from the file as they went in."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from delegraph.core.model import Model, Table
from delegraph.core.model.field import Field
from delegraph.core.model.reader import decode
from delegraph.core.model.schema_table import TABLES, UNIONS
from delegraph.core.model.writer import write


def _scalars(dtype: str) -> st.SearchStrategy[Any]:
    if dtype == "bool":
        return st.booleans()
    if dtype.startswith("float"):
        return st.floats(width=32 if dtype == "float32" else 64)
    return st.integers(int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))


def _values(field: Field) -> st.SearchStrategy[Any]:
    if field.kind == "scalar":
        return _scalars(field.dtype)
    if field.kind == "string":
        octets = st.binary(max_size=9).map(lambda octets: octets.decode("utf-8", "surrogateescape"))
        return st.none() | octets
    if field.kind == "vector":
        return st.none() | arrays.arrays(np.dtype(field.dtype), st.integers(0, 5))
    if field.kind == "tables":
        return st.none() | st.lists(tables(field.type_name), max_size=2).map(tuple)
    members = UNIONS[field.type_name] if field.kind == "union" else (field.type_name,)
    return st.none() | st.sampled_from(members).flatmap(tables)


def tables(type_name: str) -> st.SearchStrategy[Table]:
    """Tables of a type, most of their fields left out."""
    # Offsets of bytes outside the FlatBuffer are the writer's own.
    names = [n for n in TABLES[type_name] if not n.startswith("large_") and (type_name != "Buffer" or n == "data")]
    return st.sets(st.sampled_from(names), max_size=4).flatmap(
        lambda some: st.fixed_dictionaries({n: _values(TABLES[type_name][n]) for n in sorted(some)})
    ).map(lambda fields: Table(type_name, **fields)) if names else st.just(Table(type_name))  # fmt: skip


@given(root=tables("Model"), inline=st.booleans())
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_any_table_comes_back(root: Table, inline: bool) -> None:
    data = write(Model(root), inline_limit_bytes=2**20 if inline else 0)
    again = decode(memoryview(data))
    assert again == root
    assert write(Model(again), inline_limit_bytes=2**20 if inline else 0) == data


@given(st.sampled_from(sorted(TABLES)).flatmap(tables))
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_a_table_equals_itself_and_its_changes_differ(table: Table) -> None:
    assert table == table.replace()
    for name in table.fields:
        default = TABLES[table.type_name][name].default
        assert table.replace(**{name: default}) != table
