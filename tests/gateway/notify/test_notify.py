"""Events become publications, once in each channel; those that can't are set aside."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.notify import Notifier, NotifyCounters
from hubbub_client.contracts.channels import personal_channel
from hubbub_client.contracts.ids import UserId
from hubbub_client.contracts.publications import Publication
from hubbub_client.contracts.subjects import publication_subject
from shared.runtime.supervision import Loop, Supervisor
from tests.gateway.notify.notifying import ANN, BOB, POST, Notifying, a_like


async def test_an_event_is_published_once_to_each_recipient_and_channel(
    notifying: Notifying,
) -> None:
    event = a_like(recipients=(ANN, BOB, ANN), channels=(POST, personal_channel(ANN)))

    await notifying.handle(event)

    expected = Publication(
        data={"post_id": 7, "event": "post_liked", "id": event.id}, event_id=event.id
    )
    for channel in (personal_channel(ANN), personal_channel(BOB), POST):
        assert await notifying.publications(channel) == [expected]
    assert notifying.counted == {"published": 3}


async def test_an_event_of_an_unknown_type_is_published_like_any_other(
    notifying: Notifying,
) -> None:
    await notifying.handle(a_like(type="comet_seen", data={"magnitude": 2}))

    [publication] = await notifying.publications(personal_channel(ANN))
    assert publication.data["event"] == "comet_seen"


async def test_events_from_before_the_start_are_published_in_order(notifying: Notifying) -> None:
    await notifying.publish(*(a_like(data={"like_count": number}) for number in range(20)))

    await notifying.handle()

    publications = await notifying.publications(personal_channel(ANN))
    assert [each.data["like_count"] for each in publications] == list(range(20))


async def test_an_event_with_more_recipients_than_are_published_to_at_a_time_reaches_all(
    notifying: Notifying,
) -> None:
    notifying.limits = replace(notifying.limits, max_publications=7)
    users = [UserId(str(number)) for number in range(1, 31)]

    await notifying.handle(a_like(recipients=tuple(users)))

    for user in users:
        assert len(await notifying.publications(personal_channel(user))) == 1


@pytest.mark.parametrize(
    "payload",
    [
        b"not json",
        b"[]",
        b'{"v":2,"id":"1","type":"x","data":{}}',
        b'{"type":"without_an_id","data":{},"recipients":[1]}',
        b'{"id":"1","type":"x","data":{},"recipients":["a n"]}',
        b'{"id":"1","type":"x","data":{},"channels":["no channel"]}',
        b'{"id":"1","type":"x","data":{"a":"\\ud800"},"recipients":[1]}',
        b'{"id":"1","type":"x","data":{"a":1e400},"recipients":[1]}',
        b'{"id":"1","type":"x","data":{"a":NaN},"recipients":[1]}',
        b'{"id":"1","type":"x","data":{"a":%b%b},"recipients":[1]}' % (b"[" * 60, b"]" * 60),
        b"\xff",
    ],
)
async def test_an_unreadable_event_is_set_aside_and_the_next_one_is_published(
    notifying: Notifying, payload: bytes
) -> None:
    await notifying.publisher.publish("events.posts.x", payload, message_id="unreadable")

    await notifying.handle(a_like())

    assert notifying.counted == {"unreadable": 1, "published": 1}


async def test_an_event_that_can_never_be_published_does_not_hold_up_the_next_one(
    notifying: Notifying,
) -> None:
    event_id = "x" * 64  # a publication has it twice, an event once
    barely_fits = b'{"type":"long","id":"%b","recipients":[1],"data":{"text":"' % event_id.encode()
    barely_fits += b"x" * (notifying.bus.max_payload - len(barely_fits) - 40) + b'"}}'
    await notifying.publisher.publish("events.posts.long", barely_fits, message_id="1")

    await notifying.handle(a_like())

    assert notifying.counted == {"refused": 1, "published": 1}


@pytest.mark.parametrize("time", ["2026-01-01T00:00:00", "0001-01-01T00:00:00Z", "9999-12-31"])
async def test_an_event_with_an_odd_time_is_published(notifying: Notifying, time: str) -> None:
    await notifying.handle(a_like().model_copy(update={"time": datetime.fromisoformat(time)}))

    assert len(await notifying.publications(personal_channel(ANN))) == 1
    assert notifying.counted == {"published": 1}


async def test_another_publication_of_the_channel_is_not_taken_for_that_of_the_event(
    notifying: Notifying,
) -> None:
    await notifying.publisher.publish(
        publication_subject(personal_channel(ANN)),
        Publication(data={"x": 1}).encode(),
        message_id="another",
    )

    await notifying.handle(a_like(time=datetime.now(UTC) - timedelta(days=1)))

    assert notifying.counted == {"published": 1}


async def test_a_notifier_that_failed_goes_on_with_the_events_that_it_had_not_begun(
    notifying: Notifying,
) -> None:
    faults = [ZeroDivisionError()]

    def count_unreadable() -> None:
        notifying.counted.update(["unreadable"])
        if faults:
            raise faults.pop()

    notifier = Notifier(
        notifying.bus,
        notifying.publisher,
        notifying.history,
        counters=NotifyCounters(unreadable=count_unreadable),
        limits=notifying.limits,
    )
    await notifying.publish(a_like())
    await notifying.publisher.publish("events.posts.x", b"no event", message_id="unreadable")

    async with Supervisor().running(Loop("notify", notifier.run)):
        await notifying.until_all_acked()

    assert notifying.counted == {"unreadable": 2}
    assert len(await notifying.publications(personal_channel(ANN))) == 1
