"""Every message of the PRES stream is read as a record or ignored."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.presence.records import (
    REMOVAL_HEADERS,
    ClientInfo,
    Entry,
    EntryKey,
    EntryRecord,
    ForeignRecord,
    LeaseKey,
    LeaseRecord,
    LeaseState,
    NodeId,
    entry_subject,
    lease_subject,
    parse,
    read_record,
)
from hubbub_client.contracts.channels import parse_channel
from hubbub_client.contracts.ids import ChannelName, ConnectionId, UserId
from hubbub_client.contracts.subjects import PRES_PUB
from hubbub_client.nats.headers import encode_headers
from tests.fixtures.user_ids import user_ids
from tests.gateway.presence.client_infos import client_infos

NODE = NodeId("0f")
REMOVAL = b"NATS/1.0\r\nKV-Operation: PURGE\r\n\r\n"
MARKER = b"NATS/1.0\r\nNats-Marker-Reason: MaxAge\r\n\r\n"

channels = st.from_regex(r"[!-~]{1,40}", fullmatch=True).map(parse_channel)


@given(channels, user_ids)
def test_the_subject_of_an_entry_is_parsed_to_its_key(
    channel: ChannelName, user_id: UserId
) -> None:
    key = EntryKey((channel, user_id), NODE)

    subject = entry_subject(key)

    assert parse(subject.removeprefix(PRES_PUB)) == key
    assert subject.count(".") == 4  # one token each, whatever the channel is named


def test_a_channel_named_like_the_leases_is_still_a_channel() -> None:
    key = EntryKey((ChannelName("_node"), UserId("1")), NODE)

    assert parse(entry_subject(key).removeprefix(PRES_PUB)) == key
    assert parse(lease_subject(NODE).removeprefix(PRES_PUB)) == LeaseKey(NODE)


def test_an_entry_is_read_as_it_was_written() -> None:
    entry = Entry("Ann Ågren", 1.5, (ConnectionId("a"), ConnectionId("b")))

    record = read_record("chat:lobby.7.0f", 3, entry.encode(), b"")

    assert record == EntryRecord(EntryKey((ChannelName("chat:lobby"), UserId("7")), NODE), 3, entry)


@pytest.mark.parametrize(
    ("payload", "headers", "state"),
    [
        (b'{"v":1}', b"", LeaseState.LIVE),
        (b'{"v":1,"leaving":true}', b"", LeaseState.LEAVING),
        (b"", MARKER, LeaseState.EXPIRED),
        (b"", REMOVAL, LeaseState.ENDED),
        (b'{"v":1,"later":1}', b"", LeaseState.LIVE),
        (b'{"v":2,"leaving":true,"later":1}', b"", LeaseState.LEAVING),
    ],
)
def test_a_lease_is_live_expired_or_ended(
    payload: bytes, headers: bytes, state: LeaseState
) -> None:
    assert read_record("_node.0f", 5, payload, headers) == LeaseRecord(LeaseKey(NODE), 5, state)


@given(st.text() | st.sampled_from(["c.1.n", "c.x.n", "_node.n"]), st.binary())
def test_any_message_is_a_record_or_nothing(name: str, payload: bytes) -> None:
    read_record(name, 1, payload, b"NATS/1.0\r\n\r\n")


def test_an_entry_is_written_as_plain_json() -> None:
    entry = Entry('Ann "Å"', 1.5, (ConnectionId("a"), ConnectionId("b")))

    assert entry.encode().decode() == '{"name":"Ann \\"Å\\"","since":1.5,"connections":["a","b"]}'


@given(st.text(), st.floats(0, 1e12), st.lists(st.text().map(ConnectionId)).map(tuple))
def test_any_entry_is_read_as_it_was_written(
    name: str, since: float, ids: tuple[ConnectionId, ...]
) -> None:
    record = read_record("c.1.n", 1, Entry(name, since, ids).encode(), b"")

    assert isinstance(record, EntryRecord)
    assert record.entry == Entry(name, since, ids)


connections = st.lists(st.tuples(st.text().map(ConnectionId), client_infos))


@given(connections, st.integers(0, 2**40))
def test_any_infos_survive(listed: list[tuple[ConnectionId, ClientInfo | None]], more: int) -> None:
    infos = tuple(info for _, info in listed)
    entry = Entry("Ann", 1.5, tuple(each for each, _ in listed), infos if any(infos) else (), more)

    record = read_record("c.1.n", 1, entry.encode(), b"")

    assert isinstance(record, EntryRecord)
    assert record.entry == entry
    assert list(entry.clients()) == listed
    assert entry.connection_count == len(listed) + more


def test_an_older_gateway_reads_what_it_knows_of_an_entry() -> None:
    info = ClientInfo(b'{"role": "dj"}', b"1.50")
    entry = Entry("Ann", 1.5, (ConnectionId("a"), ConnectionId("b")), (info, None), 3)

    body = json.loads(entry.encode())

    assert [*body] == ["name", "since", "connections", "infos", "unlisted"]
    assert (body["name"], body["since"], body["connections"]) == ("Ann", 1.5, ["a", "b"])
    assert body["infos"] == [{"conn": '{"role": "dj"}', "chan": "1.50"}, None]
    assert body["unlisted"] == 3


def test_what_a_newer_gateway_adds_is_ignored() -> None:
    body = (
        b'{"name":"Ann","since":1,"connections":["a"],"infos":[{"chan":"1","later":{}}],'
        b'"later":[1],"unlisted":0}'
    )

    record = read_record("c.1.n", 1, body, b"")

    assert isinstance(record, EntryRecord)
    assert record.entry == Entry("Ann", 1, (ConnectionId("a"),), (ClientInfo(None, b"1"),))


def test_an_entry_of_an_older_gateway_has_no_infos() -> None:
    record = read_record("c.1.n", 1, b'{"name":"Ann","since":1,"connections":["a","b"]}', b"")

    assert isinstance(record, EntryRecord)
    assert record.entry is not None
    assert list(record.entry.clients()) == [("a", None), ("b", None)]
    assert record.entry.connection_count == 2


def test_an_info_is_as_long_as_what_it_adds_to_an_entry() -> None:
    info = ClientInfo(b'{"a": "\xc3\xa4"}')
    bare, one = Entry("Ann", 1, (ConnectionId("a"),)), ConnectionId("a")

    with_info = Entry("Ann", 1, (one,), (info,))

    assert len(with_info.encode()) - len(bare.encode()) == info.encoded_bytes + len(',"infos":[]')


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[",
        b"[]",
        b'{"name":1,"since":1,"connections":[]}',
        b'{"name":"a","since":NaN,"connections":[]}',
        b'{"name":"a","since":1e999,"connections":[]}',
        b'{"name":"a","since":1' + b"0" * 400 + b',"connections":[]}',
        b'{"name":"a","since":true,"connections":[]}',
        b'{"name":"a","since":1,"connections":[1]}',
        b'{"name":"a","since":1,"connections":{}}',
        b'{"name":"a","since":1}',
        b'{"name":"\xff","since":1,"connections":[]}',
        b'{"name":"a","since":1,"connections":["c"],"infos":{}}',
        b'{"name":"a","since":1,"connections":["c"],"infos":["x"]}',
        b'{"name":"a","since":1,"connections":["c"],"infos":[{"conn":1}]}',
        b'{"name":"a","since":1,"connections":["c"],"infos":[null,null]}',
        b'{"name":"a","since":1,"connections":["c"],"infos":[{"conn":""}]}',
        b'{"name":"a","since":1,"connections":["c"],"infos":[{"conn":"{}}"}]}',
        b'{"name":"a","since":1,"connections":["c"],"infos":[{"chan":"NaN"}]}',
        b'{"name":"a","since":1,"connections":["c"],"infos":[{"chan":"[1,\\n2]"}]}',
        b'{"name":"a","since":1,"connections":["c"],"unlisted":-1}',
        b'{"name":"a","since":1,"connections":["c"],"unlisted":1.5}',
        b'{"name":"a","since":1,"connections":["c"],"unlisted":true}',
    ],
)
def test_what_is_no_entry_counts_neither_as_one_nor_as_a_removal(body: bytes) -> None:
    record = read_record("c.1.n", 1, body, REMOVAL)

    assert record == ForeignRecord(EntryKey((ChannelName("c"), UserId("1")), NodeId("n")), 1)


def test_an_entry_is_removed_by_an_empty_message_with_the_header_that_each_removal_has() -> None:
    headers = encode_headers({"Nats-Msg-Id": "n:7", **REMOVAL_HEADERS, "Nats-TTL": "60000ms"})

    record = read_record("c.1.n", 1, b"", headers)

    assert record == EntryRecord(EntryKey((ChannelName("c"), UserId("1")), NodeId("n")), 1, None)


@pytest.mark.parametrize(
    ("payload", "headers"),
    [
        (b'{"stream":"RT", "seq":17}', b""),
        (b'{"stream":"RT", "domain":"hub", "seq":17,"duplicate": true}', b""),
        (b'{"error":{"code":503,"err_code":10077,"description":"d"},"stream":"RT","seq":0}', b""),
        (b'{"type":"io.nats.jetstream.api.v1.stream_info_response","total":0,"state":{}}', b""),
        (b'{"type":"io.nats.jetstream.api.v1.stream_msg_get_response","message":{"seq":1}}', b""),
        (b'{"v":"1"}', b""),
        (b"[1]", b""),
        (b"+OK", b""),
        (b"", b""),  # of an ack that asks for an answer
        (b"", b"NATS/1.0 404 No Messages\r\n\r\n"),
    ],
)
def test_an_answer_of_the_bus_is_no_entry_no_lease_and_no_end_of_either(
    payload: bytes, headers: bytes
) -> None:
    assert isinstance(read_record("c.1.n", 1, payload, headers), ForeignRecord)
    # It took the lease's place in the stream, so the lease is renewed no more, and ended like any.
    expired = LeaseRecord(LeaseKey(NODE), 5, LeaseState.EXPIRED)
    assert read_record("_node.0f", 5, payload, headers) == expired
