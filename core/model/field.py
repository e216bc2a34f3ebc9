"""What the schema says about one field of a table: the row type of the generated ``schema_table``.

Imports nothing of delegraph.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["scalar", "string", "vector", "table", "tables", "union"]


class Field(NamedTuple):
    """One field of one table.

    Attributes:
        slot: place in the vtable; a union's value slot (its type is in ``slot - 1``).
        kind: "scalar", "string", "vector" (of scalars), "table", "tables" (vector of tables) or "union".
        dtype: NumPy name of the scalar or of the vector's elements; "" for other kinds.
        default: what an absent field reads as; None for all kinds but scalars.
        type_name: the enum behind the scalar, the table, or the union; "" if none.
        align: alignment of a vector's first element in bytes, where the schema forces one; else 0.
    """

    slot: int
    kind: Kind
    dtype: str = ""
    default: int | float | bool | None = None
    type_name: str = ""
    align: int = 0
