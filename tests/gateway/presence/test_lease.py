"""The lease of a node, by what the stream has of it."""

import asyncio
from collections.abc import Mapping

from gateway.presence.lease import NodeLease
from gateway.presence.records import EXPECTED_SEQUENCE, LAST_LEASE_BODY, LEASE_BODY, NodeId
from hubbub_client.contracts.subjects import PRES_PUB
from hubbub_client.jetstream.publisher import PubAck, Publisher
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import Bus, connect_bus
from shared.jetstream.streams import bootstrap
from tests.fixtures.nats import NatsServer
from tests.gateway.presence.gateways import QUICK


class Slow(Publisher):
    """A publisher whose ack of a new lease is a long time coming."""

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus)
        self.stored = asyncio.Event()
        self.goes_on = asyncio.Event()

    async def publish(
        self,
        subject: str,
        payload: bytes,
        *,
        message_id: str,
        deadline_seconds: float = 5.0,
        ttl: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> PubAck:
        ack = await super().publish(
            subject,
            payload,
            message_id=message_id,
            deadline_seconds=deadline_seconds,
            ttl=ttl,
            headers=headers,
        )
        if (headers or {}).get(EXPECTED_SEQUENCE) == "0":
            self.stored.set()
            await self.goes_on.wait()
        return ack


async def test_a_lease_that_is_taken_while_the_gateway_stops_is_shortened_too(
    server: NatsServer,
) -> None:
    held: list[NodeId] = []
    async with connect_bus(server.url, name="gateway") as bus:
        await bootstrap(bus)
        publisher = Slow(bus)
        lease = NodeLease(publisher, QUICK, on_held=held.append, on_lost=lambda: None)
        reader = StreamReader(bus, "PRES")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(lease.run())
                await publisher.stored.wait()
                before = await reader.last_on_leader(f"{PRES_PUB}_node.*")
                releasing = group.create_task(lease.release(deadline_seconds=60))
                asyncio.get_running_loop().call_soon(publisher.goes_on.set)  # once that has begun
                await releasing
                after = await reader.last_on_leader(f"{PRES_PUB}_node.*")
        finally:
            publisher.stop()

    assert before is not None
    assert after is not None
    assert (before.payload, after.payload) == (LEASE_BODY, LAST_LEASE_BODY)
    assert before.subject == after.subject
    assert held == []
