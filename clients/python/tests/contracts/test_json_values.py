"""What is JSON, and what of it every reader can read."""

import json
from typing import Any

import pydantic_core
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubbub_client.contracts.json_values import MAX_LEVELS, fault_of, is_plain, read_json

ANY_TEXT = st.text(st.characters(exclude_categories=[]))  # half pairs too
ANY_TEXT = ANY_TEXT.filter(lambda text: "Infinity" not in text)  # a number, for these tests
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | ANY_TEXT
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner), max_leaves=8
)


def nested(levels: int, inner: Any = None) -> Any:
    """Lists and objects by turns, the innermost empty unless something is to be in it."""
    value: Any = [] if inner is None else [inner]
    for level in range(levels - 1):
        value = {"a": value} if level % 2 else [1, value]
    return value


@given(VALUES)
def test_what_others_write_is_read(value: Any) -> None:
    escaped = json.dumps(value).replace("Infinity", "1e400")

    assert read_json(escaped) == value
    assert read_json(escaped.encode()) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "NaN",
        "Infinity",
        "-Infinity",
        '["\\ud83d", NaN]',
        '["\\ud83d"',
        '"\ud83d"',
        b"\xed\xa0\xbd",
        b'["\\ud83d", "\xff"]',
        '"\\ud83d"'.encode("utf-16"),
        "[" * 100_000,
        '["\\ud83d"' + "[" * 100_000,
        "9" * 5_000,
    ],
    ids=repr,
)
def test_what_is_no_json_is_one_kind_of_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whose words are the reader's own
        read_json(text)


@pytest.mark.parametrize("levels", [1, 2, MAX_LEVELS - 1, MAX_LEVELS])
def test_so_many_levels_can_be_read(levels: int) -> None:
    assert fault_of(nested(levels)) is None
    assert fault_of(nested(levels, "x")) is None


@pytest.mark.parametrize("levels", [MAX_LEVELS + 1, MAX_LEVELS + 2, 200])
def test_with_one_more_not_everybody_can(levels: int) -> None:
    assert fault_of(nested(levels)) == "nested more than 60 levels deep"
    assert fault_of(nested(levels, "x")) == "nested more than 60 levels deep"


@pytest.mark.parametrize("text", ["1e400", "-1e309", "1" + "0" * 309, "-" + "9" * 400])
def test_a_number_that_no_double_can_hold_is_a_fault_wherever_it_stands(text: str) -> None:
    number = read_json(text)

    for value in (number, [1, [number]], {"a": {"b": number}}):
        assert "a number that is" in (fault_of(value) or "")


@pytest.mark.parametrize("number", [2**53 + 1, -(2**64), 10**308, 1.7e308, 5e-324, -0.0, True])
def test_every_other_number_is_one_to_all(number: float) -> None:
    assert fault_of([number]) is None


@given(
    st.dictionaries(
        st.text() | st.integers(),
        st.none() | st.booleans() | st.integers() | st.text() | st.floats() | st.just([]),
        max_size=4,
    )
)
def test_what_is_plain_comes_back_from_json_as_it_is_and_has_no_fault(value: Any) -> None:
    if is_plain(value):
        back = pydantic_core.from_json(pydantic_core.to_json(value))
        assert repr(back) == repr(value)
        assert fault_of(back) is None


@pytest.mark.parametrize("value", [{}, {"a": "b"}, {"a": None, "b": True, "c": -5, "d": 2**53 - 1}])
def test_an_object_of_texts_and_small_numbers_is_plain(value: object) -> None:
    assert is_plain(value)


@pytest.mark.parametrize(
    "value",
    ["a", [], None, {"a": {}}, {"a": []}, {"a": 0.5}, {"a": 2**53}, {1: "a"}, {"a": b"b"}],
)
def test_other_values_are_not(value: object) -> None:
    assert not is_plain(value)
