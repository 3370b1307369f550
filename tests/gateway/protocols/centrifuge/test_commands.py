"""What is read of a client's messages."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.centrifuge.commands import (
    PONG,
    BadCommand,
    Command,
    Connect,
    HeldSubscription,
    History,
    Position,
    Publish,
    Subscribe,
    read_commands,
    read_connect,
)


def read(message: str) -> list[Command]:
    return [command for command, _line in read_commands(message)]


def test_a_message_has_a_command_a_line_and_may_end_its_last() -> None:
    connect = '{"connect":{"token":"T","subs":{"#42":{"recover":true,"epoch":"e"}}},"id":10}'
    subscribe = '{"subscribe":{"channel":"news","flag":1,"recover":true,"offset":1},"id":11}'

    held = HeldSubscription(recover=True, epoch="e")
    assert read(f"{connect}\n{subscribe}\n") == [
        Command(10, "connect", Connect(token="T", subs={"#42": held})),
        Command(11, "subscribe", Subscribe(channel="news", flag=1, recover=True, offset=1)),
    ]


def test_an_empty_object_is_a_pong() -> None:
    assert read("{}") == [PONG]


@pytest.mark.parametrize("data", [0, False, "", [], {}, {"a": None}, "x"])
def test_any_data_but_null_is_kept(data: object) -> None:
    [command] = read(json.dumps({"id": 1, "publish": {"channel": "c", "data": data}}))
    assert command.request == Publish(channel="c", data=data)


def test_members_that_are_null_or_unknown_are_as_if_they_were_not_there() -> None:
    [command] = read('{"id":1,"send":null,"subscribe":{"channel":"c","token":null,"later":[1]}}')
    assert command == Command(1, "subscribe", Subscribe(channel="c"))


def test_what_is_null_within_a_request_is_as_if_it_were_not_there_too() -> None:
    [connect] = read(
        '{"id":1,"connect":{"subs":{"#1":null,"a":{"epoch":null}},"headers":{"h":null}}}'
    )
    [history] = read('{"id":2,"history":{"channel":"c","since":{"offset":1,"epoch":null}}}')
    [newest] = read('{"id":3,"history":{"channel":"c","since":null}}')

    held = HeldSubscription()
    assert connect.request == Connect(subs={"#1": held, "a": held}, headers={"h": ""})
    assert history.request == History(channel="c", since=Position(offset=1))
    assert newest.request == History(channel="c")


def test_of_two_methods_the_first_in_the_order_of_the_protocol_counts() -> None:
    [command] = read('{"id":1,"publish":{"channel":"c","data":1},"subscribe":{"channel":"d"}}')
    assert command.method == "subscribe"


@pytest.mark.parametrize(
    "message",
    [
        "", "\n", "x", "[]", "1", "null", '{"id":1}\n\n{"id":2}',
        '{"connect":{}}',
        '{"id":0,"subscribe":{"channel":"c"}}',
        '{"id":-1,"connect":{}}',
        '{"id":4294967296,"connect":{}}',
        '{"id":"1","connect":{}}',
        '{"id":true,"connect":{}}',
        '{"id":1,"connect":[]}',
        '{"id":1,"connect":{"token":7}}',
        '{"id":1,"subscribe":{"channel":"c","offset":-1}}',
        '{"id":1,"subscribe":{"channel":"c","offset":1.5}}',
        '{"id":1,"subscribe":{"channel":"c","recover":"yes"}}',
        '{"id":1,"history":{"channel":"c","limit":"x"}}',
    ],
)  # fmt: skip
def test_what_is_no_command_ends_the_connection(message: str) -> None:
    with pytest.raises(BadCommand):
        read(message)


def test_commands_before_a_bad_one_are_read() -> None:
    commands = read_commands('{"id":1,"publish":{"channel":"c","data":1}}\nx')
    assert next(commands)[0].method == "publish"
    with pytest.raises(BadCommand):
        next(commands)


def test_a_unidirectional_client_sends_a_bare_request() -> None:
    assert read_connect('{"token":"T"}') == Command(1, "connect", Connect(token="T"))
    for nothing in ("{}", "null"):
        assert read_connect(nothing) == Command(1, "connect", Connect())
    for message in ("x", "[]", '{"token":1}'):
        with pytest.raises(BadCommand):
            read_connect(message)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
NAMES = st.sampled_from(["id", "connect", "subscribe", "publish", "history", "send", "channel"])


@given(st.text() | st.dictionaries(NAMES, st.dictionaries(NAMES, JSON) | JSON).map(json.dumps))
def test_nothing_but_a_bad_command_comes_of_any_message(message: str) -> None:
    try:
        for command, _line in read_commands(message):
            assert command.method in {"", "connect", "subscribe", "publish", "history", "send"}
    except BadCommand:
        pass
