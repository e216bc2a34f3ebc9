"""Turn core/model/schema.fbs into core/model/schema_table.py, the table that drives reader and writer.

    python -m tools.schema_table           write the table
    python -m tools.schema_table --check   exit 1 if it is out of date

Grammar understood, a subset of FlatBuffers' (comments run from // to the end of the line)::

    schema     = { namespace | attribute | enum | union | table | root_type }
    enum       = "enum" name ":" scalar "{" name [ "=" integer ] { "," ... } "}"
    union      = "union" name "{" table { "," table } "}"
    table      = "table" name [ meta ] "{" { name ":" type [ "=" default ] [ meta ] ";" } "}"
    type       = scalar | "string" | enum | table | union | "[" ( scalar | enum | table ) "]"
    meta       = "(" name [ ":" integer ] { "," ... } ")"

Fields marked ``deprecated`` are kept: files that still have them must not lose them on the way through.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from delegraph.core.model.field import Field

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "core" / "model" / "schema.fbs"
TABLE = ROOT / "core" / "model" / "schema_table.py"

DTYPES = {
    "bool": "bool", "byte": "int8", "ubyte": "uint8", "short": "int16", "ushort": "uint16",
    "int": "int32", "uint": "uint32", "long": "int64", "ulong": "uint64", "float": "float32",
    "double": "float64", "int8": "int8", "uint8": "uint8", "int16": "int16", "uint16": "uint16",
    "int32": "int32", "uint32": "uint32", "int64": "int64", "uint64": "uint64",
    "float32": "float32", "float64": "float64",
}  # fmt: skip


class Schema(NamedTuple):
    """A parsed schema: what the generated module holds, and the root table's name."""

    tables: dict[str, dict[str, Field]]
    enums: dict[str, dict[str, int]]
    unions: dict[str, tuple[str, ...]]
    root: str


class _RawField(NamedTuple):
    name: str
    type_name: str
    is_vector: bool
    default: str
    meta: dict[str, str]


def parse(text: str) -> Schema:
    """The schema written in text.

    Raises: ValueError if the text is not in the grammar above, names an unknown type, or has tables that
    contain themselves (the reader's recursion is bounded by the schema's depth).
    """
    tokens = _Tokens(text)
    raw_tables: dict[str, list[_RawField]] = {}
    enums: dict[str, dict[str, int]] = {}
    enum_dtypes: dict[str, str] = {}
    unions: dict[str, tuple[str, ...]] = {}
    root = ""
    for word in tokens:
        if word == "table":
            name = next(tokens)
            tokens.meta()
            raw_tables[name] = _fields(tokens)
        elif word == "enum":
            name = next(tokens)
            tokens.expect(":")
            enum_dtypes[name] = DTYPES[next(tokens)]
            enums[name] = _members(tokens)
        elif word == "union":
            name = next(tokens)
            unions[name] = tuple(_members(tokens))
        elif word == "root_type":
            root = next(tokens)
            tokens.expect(";")
        elif word in ("namespace", "file_identifier", "file_extension"):
            next(tokens)
            tokens.expect(";")
        else:
            raise ValueError(f"schema: expected a declaration, found {word!r}")

    tables = {}
    for table_name, raw_fields in raw_tables.items():
        fields: dict[str, Field] = {}
        slot = 0
        for raw in raw_fields:
            if raw.type_name in unions:
                slot += 1  # the slot before a union's value holds its type
            try:
                fields[raw.name] = _field(slot, raw, raw_tables, enums, enum_dtypes, unions)
            except (KeyError, ValueError) as exc:
                raise ValueError(f"schema: {table_name}.{raw.name}: unknown type or default: {exc}") from exc
            slot += 1
        tables[table_name] = fields
    _check_not_recursive(tables, unions)
    return Schema(tables, enums, unions, root)


class _Tokens:
    """An iterator over the words and signs of a schema, comments left out."""

    def __init__(self, text: str) -> None:
        found = re.findall(r'//[^\n]*|"[^"]*"|-?\d[\w.+-]*|\w+|\S', text)
        self._tokens: list[str] = [token for token in found if not token.startswith("//")]
        self._tokens.reverse()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if not self._tokens:
            raise StopIteration
        return self._tokens.pop()

    def take(self, token: str) -> bool:
        """Whether token came next; it is consumed if so."""
        if self._tokens and self._tokens[-1] == token:
            self._tokens.pop()
            return True
        return False

    def expect(self, token: str) -> None:
        if not self.take(token):
            raise ValueError(f"schema: expected {token!r}, found {' '.join(self._tokens[:-6:-1])!r}")

    def meta(self) -> dict[str, str]:
        """The attributes in parentheses that come next, if any."""
        attributes: dict[str, str] = {}
        if self.take("("):
            while not self.take(")"):
                name = next(self)
                attributes[name] = next(self) if self.take(":") else ""
                self.take(",")
        return attributes


def _members(tokens: _Tokens) -> dict[str, int]:
    tokens.expect("{")
    members: dict[str, int] = {}
    value = 0
    while not tokens.take("}"):
        name = next(tokens)
        if tokens.take("="):
            value = int(next(tokens))
        members[name] = value
        value += 1
        tokens.meta()
        tokens.take(",")
    return members


def _fields(tokens: _Tokens) -> list[_RawField]:
    tokens.expect("{")
    fields = []
    while not tokens.take("}"):
        name = next(tokens)
        tokens.expect(":")
        is_vector = tokens.take("[")
        type_name = next(tokens)
        if is_vector:
            tokens.expect("]")
        default = next(tokens) if tokens.take("=") else ""
        fields.append(_RawField(name, type_name, is_vector, default, tokens.meta()))
        tokens.expect(";")
    return fields


def _field(
    slot: int,
    raw: _RawField,
    tables: dict[str, list[_RawField]],
    enums: dict[str, dict[str, int]],
    enum_dtypes: dict[str, str],
    unions: dict[str, tuple[str, ...]],
) -> Field:
    name = raw.type_name
    if name in tables:
        return Field(slot, "tables" if raw.is_vector else "table", type_name=name)
    if name in unions and not raw.is_vector:
        return Field(slot, "union", type_name=name)
    if name == "string" and not raw.is_vector:
        return Field(slot, "string")
    enum = name if name in enums else ""
    dtype = enum_dtypes[name] if enum else DTYPES[name]
    if raw.is_vector:
        return Field(slot, "vector", dtype, type_name=enum, align=int(raw.meta.get("force_align", "0")))
    default: int | float | bool
    if enum:
        default = enums[name][raw.default] if raw.default else 0
    elif dtype == "bool":
        default = {"": False, "false": False, "true": True}[raw.default]
    elif dtype.startswith("float"):
        default = float(raw.default or 0)
    else:
        default = int(raw.default or 0)
    return Field(slot, "scalar", dtype, default, enum)


def _check_not_recursive(tables: dict[str, dict[str, Field]], unions: dict[str, tuple[str, ...]]) -> None:
    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise ValueError(f"schema: table {name} contains itself: {' > '.join((*above, name))}")
        for field in tables[name].values():
            for child in unions[field.type_name] if field.kind == "union" else (field.type_name,):
                if field.kind in ("table", "tables", "union"):
                    visit(child, (*above, name))

    for name in tables:
        visit(name, ())


def render(schema: Schema) -> str:
    """The text of the generated module."""
    lines = [
        '"""Made from schema.fbs by `python -m tools.schema_table`; do not edit."""',
        "",
        "from delegraph.core.model.field import Field",
        "",
        "# fmt: off",
        f"ROOT: str = {schema.root!r}",
        "",
        "# table -> field -> (slot, kind, dtype, default, type_name, align)",
        "TABLES: dict[str, dict[str, Field]] = {",
    ]
    for table, fields in schema.tables.items():
        if not fields:
            lines.append(f"    {table!r}: {{}},")
            continue
        lines.append(f"    {table!r}: {{")
        lines += [f"        {name!r}: Field{tuple(field)!r}," for name, field in fields.items()]
        lines.append("    },")
    lines += ["}", "", "# enum -> member -> value", "ENUMS: dict[str, dict[str, int]] = {"]
    for enum, members in schema.enums.items():
        lines.append(f"    {enum!r}: {{")
        lines += [f"        {name!r}: {value}," for name, value in members.items()]
        lines.append("    },")
    lines += ["}", "", "# union -> tables; type i + 1 is table i", "UNIONS: dict[str, tuple[str, ...]] = {"]
    for union, types in schema.unions.items():
        lines.append(f"    {union!r}: (")
        lines += [f"        {name!r}," for name in types]
        lines.append("    ),")
    lines += ["}", ""]
    return "\n".join(lines).replace("'", '"')


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make core/model/schema_table.py from schema.fbs.")
    parser.add_argument("--check", action="store_true", help="only say whether the table is up to date")
    check = parser.parse_args(arguments).check
    text = render(parse(SCHEMA.read_text(encoding="utf-8")))
    if TABLE.exists() and TABLE.read_text(encoding="utf-8") == text:
        return 0
    if check:
        print(f"{TABLE}: out of date; run: python -m tools.schema_table", file=sys.stderr)
        return 1
    TABLE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
