"""Publishing by callback: who is told, when, and how often."""

import asyncio

from hubbub_client.jetstream.publisher import PubAck, PubAckResult, start_publisher
from hubbub_client.nats.client import Bus, BusUnavailable, MessageRejected
from tests.fixtures.waiting import eventually
from tests.shared.jetstream.builders import a_stream


async def test_who_only_wants_to_be_told_is_told_once_and_after_the_call(bus: Bus) -> None:
    stream, told = await a_stream(bus), list[PubAckResult]()

    async with start_publisher(bus, attempt_seconds=0.05) as publisher:
        for n in range(5):
            publisher.send(f"{stream}.pub.a", b"", message_id=str(n), on_done=told.append)
            assert len(told) == 0
        await eventually(lambda: len(told) == 5)
        await asyncio.sleep(0.15)  # to send what is unanswered three times again
        assert publisher.unanswered == 0

    assert told == [PubAck(offset, duplicate=False) for offset in range(1, 6)]


async def test_what_fails_at_once_is_told_after_the_call_too(bus: Bus) -> None:
    told: list[PubAckResult] = []

    async with start_publisher(bus) as publisher:
        publisher.send("no.*", b"", message_id="a", on_done=told.append)
        publisher.send("no.stream", b"", message_id="line\r\nbreak", on_done=told.append)
        publisher.send("no.stream", bytes(bus.max_payload), message_id="b", on_done=told.append)
        assert told == []
        await eventually(lambda: len(told) == 3)
        assert publisher.unanswered == 0
    publisher.send("no.stream", b"", message_id="c", on_done=told.append)
    assert len(told) == 3
    await eventually(lambda: len(told) == 4)

    assert all(isinstance(outcome, MessageRejected) for outcome in told[:3])
    assert isinstance(told[3], BusUnavailable)


async def test_who_is_told_at_the_deadline_may_send_anew(bus: Bus) -> None:
    stream, told = await a_stream(bus), list[PubAckResult]()

    async with start_publisher(bus, window=1) as publisher:

        def send_anew(outcome: PubAckResult) -> None:
            told.append(outcome)
            publisher.send(f"{stream}.pub.a", b"", message_id="b", on_done=told.append)

        publisher.send("no.stream", b"", message_id="a", on_done=send_anew, deadline_seconds=0.1)
        await eventually(lambda: len(told) == 2)

    assert isinstance(told[0], BusUnavailable)
    assert told[1] == PubAck(1, duplicate=False)


async def test_what_is_forgotten_is_told_to_nobody_and_makes_room(bus: Bus) -> None:
    asked: list[str] = []
    await bus.subscribe("silent.forget", lambda _s, _p, _h, reply: asked.append(reply.decode()))
    told: list[str] = []

    async with start_publisher(bus, window=1, attempt_seconds=60) as publisher:
        sendings = {
            name: publisher.send(
                "silent.forget",
                b"",
                message_id=name,
                on_done=lambda _outcome, name=name: told.append(name),  # type: ignore[misc]
            )
            for name in "abc"
        }
        await eventually(lambda: len(asked) == 1)
        publisher.forget(sendings["b"])
        publisher.forget(sendings["a"])
        await eventually(lambda: len(asked) == 2)
        bus.send(asked[0], b'{"stream":"X","seq":1}')  # an answer that comes too late
        bus.send(asked[1], b'{"stream":"X","seq":7}')
        await eventually(lambda: told == ["c"])
        publisher.forget(sendings["c"])

        assert publisher.unanswered == 0


async def test_what_is_forgotten_before_its_failure_was_told_is_not_told(bus: Bus) -> None:
    told: list[PubAckResult] = []

    async with start_publisher(bus) as publisher:
        publisher.forget(publisher.send("no.*", b"", message_id="a", on_done=told.append))
        publisher.send("no.*", b"", message_id="b", on_done=told.append)
        publisher.send_again()  # which is refused a second time
        await eventually(lambda: len(told) > 0 and publisher.unanswered == 0)
        await asyncio.sleep(0.05)

    assert len(told) == 1


async def test_thousands_that_are_refused_wait_for_each_other_and_not_within(bus: Bus) -> None:
    told: list[PubAckResult] = []

    async with start_publisher(bus, window=1) as publisher:
        for n in range(3000):
            publisher.send("no.*", b"", message_id=str(n), on_done=told.append)
        await eventually(lambda: len(told) == 3000)

        assert publisher.unanswered == 0


async def test_a_caller_that_fails_costs_no_other(bus: Bus) -> None:
    told: list[PubAckResult] = []

    def fail(_outcome: PubAckResult) -> None:
        raise RuntimeError("a bug")

    async with start_publisher(bus) as publisher:
        publisher.send("no.stream", b"", message_id="a", on_done=fail, deadline_seconds=0.1)
        publisher.send("no.stream", b"", message_id="b", on_done=told.append, deadline_seconds=0.1)
        await eventually(lambda: len(told) == 1)

        assert publisher.unanswered == 0
