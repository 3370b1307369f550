"""Schemas of our types, each once in a document."""

import pytest
from pydantic import BaseModel

from shared.documents.asyncapi import Channel, Message, Server, asyncapi_document
from shared.documents.schemas import given, named, renamed, taken, with_schemas


class Person(BaseModel):
    name: str
    friends: list["Person"] = []
    nickname: str | None = None


def test_a_type_that_is_named_twice_stands_in_the_document_once() -> None:
    document = {"asked": taken(Person), "answered": [taken(Person)]}

    made = with_schemas(document)

    assert made["asked"] == made["answered"][0] == {"$ref": "#/components/schemas/Person"}
    assert made["components"]["schemas"].keys() == {"Person"}
    assert with_schemas(document) == made  # it was not changed


def test_two_types_of_one_name_are_refused() -> None:
    other = named("Person", {"type": "string"})

    with pytest.raises(ValueError, match="two schemas are called Person"):
        with_schemas({"one": taken(Person), "other": other})


def test_what_is_left_out_if_it_is_none_is_never_null_and_what_has_a_default_is_there() -> None:
    written = with_schemas({"it": given(Person, without_none=True)})
    person = written["components"]["schemas"]["Person"]

    assert person["properties"]["nickname"] == {"type": "string"}
    assert person["required"] == ["name", "friends"]


def test_a_type_that_is_taken_and_given_has_all_its_members_where_it_is_given() -> None:
    document = {"asked": taken(Person), "answered": renamed(given(Person), "KnownPerson")}

    schemas = with_schemas(document)["components"]["schemas"]

    assert schemas["Person"]["required"] == ["name"]
    assert schemas["KnownPerson"]["required"] == ["name", "friends", "nickname"]
    assert schemas["KnownPerson"]["title"] == "KnownPerson"


def test_two_messages_of_one_name_are_refused() -> None:
    channels = [
        Channel(key=key, address=key, server=Server.BUS, description="", sends=[said])
        for key, said in (
            ("a", Message("Said", given(Person), "a person")),
            ("b", Message("Said", given(str), "a text")),
        )
    ]

    with pytest.raises(ValueError, match="two messages are called Said"):
        asyncapi_document("a test", channels)


def test_two_channels_of_one_name_are_refused() -> None:
    said = Message("Person", taken(Person), "a person")
    channels = [
        Channel(key="a", address=each, server=Server.BUS, description="", sends=[said])
        for each in ("one", "another")
    ]

    with pytest.raises(ValueError, match="two channels are called a"):
        asyncapi_document("a test", channels)
