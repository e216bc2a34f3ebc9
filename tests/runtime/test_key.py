"""A key's digest depends on everything in the key and on nothing else."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from delegraph.core.errors import InvalidArgument
from delegraph.core.runtime.key import MAX_KEY_BYTES, Component, Key

BASE: dict[str, Component] = {"model": "9f86", "options": b"\x01\x02", "threads": 2}


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(Key("artifact", BASE), id="kind"),
        pytest.param(Key("plan", BASE | {"model": "9f87"}), id="str"),
        pytest.param(Key("plan", BASE | {"options": b"\x01\x03"}), id="bytes"),
        pytest.param(Key("plan", BASE | {"threads": 3}), id="int"),
        pytest.param(Key("plan", BASE | {"threads": -2}), id="sign"),
        pytest.param(Key("plan", BASE | {"threads": "2"}), id="int to str"),
        pytest.param(Key("plan", BASE | {"threads": b"\x02"}), id="int to bytes"),
        pytest.param(Key("plan", BASE | {"model": b"9f86"}), id="str to bytes"),
        pytest.param(Key("plan", BASE | {"model": "9f86 "}), id="blank"),
        pytest.param(Key("plan", BASE | {"extra": ""}), id="one more"),
        pytest.param(Key("plan", {"model": "9f86", "threads": 2}), id="one less"),
        pytest.param(Key("plan", {"Model": "9f86", "options": b"\x01\x02", "threads": 2}), id="name"),
        pytest.param(Key("plan", BASE | {"model": b"\x01\x02", "options": "9f86"}), id="swapped"),
    ],
)
def test_digest_changes_with(other: Key) -> None:
    assert other.digest != Key("plan", BASE).digest
    assert other != Key("plan", BASE)


def test_digest_does_not_change_with_the_order_of_components() -> None:
    assert Key("plan", dict(reversed(BASE.items()))).digest == Key("plan", BASE).digest


def test_digest_does_not_change_between_releases() -> None:
    """A change of the encoding makes every store cold: it needs a new format version."""
    expected = "3c8055245ff386c1c9521832790d5e5ab717ebbc3b8a8333f905577b706f1442"
    assert Key("plan", BASE).digest == expected


def test_a_bool_is_an_int() -> None:
    assert Key("plan", {"fast": True}) == Key("plan", {"fast": 1})
    assert Key("plan", {"fast": True}).digest == Key("plan", {"fast": 1}).digest


def test_a_key_does_not_change_with_the_mapping_it_was_made_of() -> None:
    components = dict(BASE)
    key = Key("plan", components)
    components["threads"] = 4
    assert key == Key("plan", BASE)
    with pytest.raises(TypeError):
        key.components["threads"] = 4  # type: ignore[index]


def test_equal_keys_are_one_in_a_set_and_travel_between_processes() -> None:
    key = Key("plan", BASE)
    assert len({key, Key("plan", BASE), pickle.loads(pickle.dumps(key))}) == 1


@pytest.mark.parametrize("kind", ["", "Plan", "../plan", "a/b", ".plan", "p" * 33, "plan\n"])
def test_a_kind_is_a_plain_file_name(kind: str) -> None:
    with pytest.raises(InvalidArgument, match="key: kind"):
        Key(kind, {})


@pytest.mark.parametrize("components", [{"a": 1.0}, {"a": None}, {"a": ["b"]}, {1: "a"}])
def test_other_types_are_refused(components: Any) -> None:
    with pytest.raises(InvalidArgument, match="key: component"):
        Key("plan", components)


def test_a_key_is_small() -> None:
    with pytest.raises(InvalidArgument, match="give a digest of what is large"):
        Key("plan", {"model": bytes(MAX_KEY_BYTES)})


# Few letters, so that equal and nearly equal keys come up; surrogates, as file names may hold them.
texts = st.text("ab", max_size=2) | st.text(st.characters(exclude_categories=()), max_size=4)
components = st.dictionaries(texts, texts | st.binary(max_size=3) | st.integers(), max_size=3)
keys = st.builds(Key, st.sampled_from(["a", "ab", "b"]), components)


@settings(deadline=None)
@given(keys, keys)
@example(Key("a", {"a": "b", "b": "a"}), Key("a", {"a": "a", "b": "b"}))
@example(Key("a", {"a": ""}), Key("a", {"": "a"}))
def test_encoding_is_injective(one: Key, other: Key) -> None:
    assert (one.encoded == other.encoded) == (one == other) == (one.digest == other.digest)


@settings(deadline=None)
@given(keys)
def test_decoding_gives_the_key_back(key: Key) -> None:
    decoded = Key.decode(key.encoded)
    assert decoded == key
    assert [type(value) for value in decoded.components.values()] == [type(value) for value in key.components.values()]


@settings(deadline=None)
@given(keys, st.data())
def test_no_other_bytes_decode(key: Key, data: st.DataObject) -> None:
    """What decodes is the encoding of the key that it gives."""
    encoded = bytearray(key.encoded)
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    try:
        decoded = Key.decode(bytes(encoded))
    except ValueError:
        return
    assert decoded.encoded == bytes(encoded)
