import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from hubbub_client.contracts.ids import (
    BadUserId,
    JsonUserId,
    UserId,
    parse_user_id,
    user_id_from_json,
    user_id_to_json,
)
from tests.fixtures.user_ids import ODD_IDS, user_ids


class Somebody(BaseModel):
    """As any message with a user in it."""

    user_id: JsonUserId


@given(user_ids)
def test_any_user_id_comes_back_from_json(user_id: UserId) -> None:
    assert parse_user_id(user_id) == user_id
    assert user_id_from_json(json.loads(json.dumps(user_id_to_json(user_id)))) == user_id
    assert Somebody.model_validate_json(Somebody(user_id=user_id).model_dump_json()) == Somebody(
        user_id=user_id
    )


@given(st.integers(1, 2**53 - 1))
@example(2**53 - 1)
@example(10**15)
def test_a_canonical_integer_below_2_to_the_53_is_a_number_in_json(number: int) -> None:
    assert Somebody(user_id=UserId(str(number))).model_dump_json() == f'{{"user_id":{number}}}'


@pytest.mark.parametrize("text", ODD_IDS)
def test_any_other_id_is_a_text_in_json(text: str) -> None:
    assert json.loads(Somebody(user_id=UserId(text)).model_dump_json()) == {"user_id": text}


@given(user_ids)
def test_no_two_ids_are_one_in_json(user_id: UserId) -> None:
    value = user_id_to_json(user_id)

    assert str(value) == user_id


@pytest.mark.parametrize("value", [7, "7"])
def test_an_integer_is_read_in_either_form(value: object) -> None:
    assert user_id_from_json(value) == "7"


def test_a_number_that_was_written_before_ids_were_texts_is_read() -> None:
    assert user_id_from_json(2**63 - 1) == str(2**63 - 1)


@pytest.mark.parametrize(
    "value", ["", " ", "a b", "ä", "a\n", "a\x7f", "x" * 129, 0, -1, 2**63, 7.0, True, None, ["7"]]
)
def test_what_is_no_user_id_is_refused(value: object) -> None:
    with pytest.raises(BadUserId):
        user_id_from_json(value)
