"""The schema file, the table made from it, and the schema that LiteRT ships say the same."""

from __future__ import annotations

import re

import pytest
from tests.support import require
from tools import schema_table

from delegraph.core.model.schema_table import ENUMS, TABLES, UNIONS


def test_table_is_up_to_date() -> None:
    assert schema_table.main(["--check"]) == 0, "run: python -m tools.schema_table"


def test_no_member_is_missing() -> None:
    assert len(UNIONS["BuiltinOptions"]) == 126
    assert len(UNIONS["BuiltinOptions2"]) == 23
    assert sorted(ENUMS["BuiltinOperator"].values()) == list(range(210))
    assert sorted(ENUMS["TensorType"].values()) == list(range(23))


def test_names_and_numbers_are_litert_s() -> None:
    require("litert")
    from ai_edge_litert import schema_py_generated as litert

    for enum, members in ENUMS.items():
        theirs = {name: value for name, value in vars(getattr(litert, enum)).items() if name.isupper()}
        ours = {name: value for name, value in members.items() if name.isupper()}
        if enum == "BuiltinOperator":
            del ours["REDUCE_WINDOW"]  # deprecated: the generated code leaves it out
            theirs.pop("REDUCE_WINDOW", None)
        assert ours == theirs, enum
    for union, types in UNIONS.items():
        theirs = {name: value for name, value in vars(getattr(litert, union)).items() if name[0].isupper()}
        for i, name in enumerate(types):
            assert theirs.get(name, i + 1) == i + 1, (union, name)
    for table, fields in TABLES.items():
        adders = {name for name in dir(litert) if name.startswith(f"{table}Add") and name != f"{table}Add"}
        kinds = [field.kind for name, field in fields.items() if (table, name) not in DEPRECATED]
        assert len(adders) == len(kinds) + kinds.count("union"), f"{table}: {sorted(adders)}"
        for name, field in fields.items():
            adder = getattr(litert, f"{table}Add{_camel(name)}", None)
            if adder is None:
                assert (table, name) in DEPRECATED, f"{table}.{name}: not in LiteRT's schema"
                continue
            # The slot is the first number in the code of the function that sets the field.
            assert field.slot in adder.__code__.co_consts, f"{table}.{name}"


DEPRECATED = {
    ("ResizeBilinearOptions", "new_height"),
    ("ResizeBilinearOptions", "new_width"),
    ("SignatureDef", "deprecated_tag"),
}


def _camel(name: str) -> str:
    return re.sub(r"(?:^|_)([a-z0-9])", lambda match: match[1].upper(), name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("table A { a: A; }", "contains itself: A > A"),
        ("table A { b: [B]; } table B { u: U; } union U { A }", "contains itself: A > B > A"),
        ("table A { a: nothing; }", "A.a: unknown type"),
        ("table A { a: int }", "expected ';'"),
        ("struct A { a: int; }", "expected a declaration, found 'struct'"),
    ],
)
def test_what_the_parser_refuses(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        schema_table.parse(text)


def test_slots_of_unions_and_defaults() -> None:
    schema = schema_table.parse("""
        // a comment
        enum E : short { X, Y = 5, Z }
        union U { B, C }
        table A { e: E = Z; u: U; after: [ubyte] (force_align: 16); b: bool = true; f: float = -1.5; }
        table B {}
        table C {}
        root_type A;
    """)
    fields = schema.tables["A"]
    assert schema.enums == {"E": {"X": 0, "Y": 5, "Z": 6}} and schema.root == "A"
    assert (fields["e"].dtype, fields["e"].default, fields["e"].slot) == ("int16", 6, 0)
    assert (fields["u"].slot, fields["after"].slot, fields["after"].align) == (2, 3, 16)
    assert fields["b"].default is True and fields["f"].default == -1.5
