"""Whoever may ask the bus can have its answer stored among presence. It changes nobody's."""

import asyncio
from dataclasses import replace

import pytest

from gateway.presence.records import EntryKey, NodeId, entry_subject, lease_subject
from hubbub_client.contracts.subjects import PRES_LIVE, PRES_PUB
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import Bus, connect_bus
from tests.fixtures.nats import NatsServer
from tests.fixtures.waiting import eventually
from tests.gateway.presence.gateways import (
    ANN,
    BOB,
    EXPIRING,
    LOBBY,
    PATIENT_SECONDS,
    QUICK,
    Gateway,
    a_gateway,
    entries_in_the_stream,
    until_entries_in_the_stream,
)


async def answer_into(bus: Bus, subject: str, *, empty: bool) -> None:
    """Have the bus store one of its answers there; the empty ones of acks look like this one."""
    stored = asyncio.Event()

    def look(_subject: bytes, payload: bytes, _headers: bytes | None, _reply: bytes) -> None:
        if not payload or payload.startswith(b'{"stream"'):
            stored.set()

    await bus.subscribe(PRES_LIVE + subject.removeprefix(PRES_PUB), look)
    if empty:
        bus.send(subject, b"")
    else:
        bus.send("rt.pub.chat:lobby", b"{}", reply=subject)
    async with asyncio.timeout(10):
        await stored.wait()


async def payloads_in_the_stream(gateway: Gateway) -> list[bytes]:
    return [message.payload for message in await entries_in_the_stream(gateway)]


def key_of(gateway: Gateway) -> EntryKey:
    assert gateway.presence.node is not None
    return EntryKey((LOBBY, ANN), gateway.presence.node)


@pytest.mark.parametrize("empty", [False, True])
async def test_an_entry_whose_place_it_took_is_written_again_and_nobody_sees_the_user_leave(
    server: NatsServer, *, empty: bool
) -> None:
    async with (
        connect_bus(server.url, name="application") as bus,
        a_gateway(server.url) as gateway,
        a_gateway(server.url) as witness,
    ):
        gateway.enter(ANN)
        await eventually(lambda: witness.users == {ANN})
        [before] = await until_entries_in_the_stream(gateway, 1)

        await answer_into(bus, before.subject, empty=empty)
        gateway.enter(BOB)  # whoever sees this has read the answer

        await eventually(lambda: witness.users == gateway.users == {ANN, BOB})
        async with asyncio.timeout(10):
            while before.payload not in await payloads_in_the_stream(gateway):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        gateway.leave(ANN)
        await eventually(lambda: witness.users == gateway.users == {BOB})
    told = [(ANN, "joined", 1), (BOB, "joined", 2), (ANN, "left", 1)]
    assert witness.told == gateway.told == told


async def test_an_entry_of_nobody_is_removed(server: NatsServer) -> None:
    async with (
        connect_bus(server.url, name="application") as bus,
        a_gateway(server.url) as gateway,
    ):
        await answer_into(bus, entry_subject(key_of(gateway)), empty=False)

        await until_entries_in_the_stream(gateway, 0)
    assert gateway.told == []


@pytest.mark.parametrize("empty", [False, True])
async def test_a_gateway_whose_lease_it_replaced_takes_another_and_its_users_are_not_seen_to_leave(
    server: NatsServer, *, empty: bool
) -> None:
    limits = replace(QUICK, hold_seconds=PATIENT_SECONDS)
    async with (
        connect_bus(server.url, name="application") as bus,
        a_gateway(server.url, limits) as gateway,
        a_gateway(server.url, limits) as witness,
    ):
        gateway.enter(ANN)
        await eventually(lambda: witness.users == {ANN})
        name = key_of(gateway).node

        await answer_into(bus, lease_subject(name), empty=empty)

        await eventually(lambda: gateway.presence.node not in (None, name))
        await eventually(
            lambda: [*witness.presence.entries(LOBBY, ANN)] == [gateway.presence.node],
            seconds=PATIENT_SECONDS * 5,
        )
        await until_entries_in_the_stream(witness, 1)
    assert witness.told == gateway.told == [(ANN, "joined", 1)]


async def test_it_is_no_lease_of_a_gateway_that_never_was(server: NatsServer) -> None:
    async with (
        connect_bus(server.url, name="application") as bus,
        a_gateway(server.url, EXPIRING) as gateway,
        a_gateway(server.url, EXPIRING) as witness,
    ):
        subject = lease_subject(NodeId("evil"))
        await answer_into(bus, subject, empty=False)

        reader = StreamReader(gateway.bus, "PRES")
        while (found := await reader.last_of(subject)) is not None and found.payload:
            await asyncio.sleep(0.05)  # until somebody has ended it
            assert "evil" not in gateway.presence.live_leases | witness.presence.live_leases
