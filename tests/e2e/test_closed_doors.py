"""Who may not come in: from outside past the edge, and from inside past NATS's accounts."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.subjects import publication_subject
from tests.e2e.evidence import STRANGER_PASSWORD
from tests.e2e.people import a_client, a_room, sign_up
from tests.e2e.promises import passing_tabs_of
from tests.e2e.stack import START_SECONDS, Service, Stack
from tests.system.processes import until

TRESPASS = Path(__file__).with_name("trespass.py").read_text()
ANSWER_SECONDS = 10.0
OPERATORS_ONLY = (
    "/metrics", "/readyz", "/livez", "/docs", "/openapi.json", "/asyncapi", "/api/publish",
)  # fmt: skip
ROUNDABOUT = (
    "/ws/../metrics", "//metrics", "/auth/../metrics", "/posts/%2e%2e/readyz", "/web/../readyz",
    "/connection/..%2fapi/publish", "/./api/publish", "/ws/chat/../../api/publish",
)  # fmt: skip


async def test_what_is_for_operators_is_not_there_from_outside(stack: Stack) -> None:
    inside = [
        (await asyncio.to_thread(stack.gateways[0].get, path)).status for path in OPERATORS_ONLY
    ]
    statuses = {}
    async with a_client(stack) as client:
        for path in OPERATORS_ONLY:
            asked = await client.get(path)
            told = await client.post(path, json={}, headers={"X-API-Key": "any"})
            statuses[path] = asked.status_code, told.status_code

    assert inside == [200] * (len(OPERATORS_ONLY) - 1) + [405], "it is there"
    assert statuses == dict.fromkeys(OPERATORS_ONLY, (404, 404))


async def test_nor_is_it_by_a_roundabout_path(stack: Stack) -> None:
    for path in ROUNDABOUT:
        head, body = await as_it_is(stack, path)
        assert head.split()[1] in ("301", "307", "308", "400", "401", "403", "404"), (path, head)
        assert "hubbub_" not in body, path
        assert "ready" not in body, path


async def as_it_is(stack: Stack, path: str) -> tuple[str, str]:
    """Ask for the path as it stands, which a client of good manners would straighten out."""
    place = urlsplit(stack.url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    request = f"GET {path} HTTP/1.1\r\nHost: {place.netloc}\r\nConnection: close\r\n\r\n"
    writer.write(request.encode())
    async with asyncio.timeout(ANSWER_SECONDS):
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    return head, body


@pytest.mark.parametrize("service", ["gateway-1", "posts"])
def test_a_service_that_nats_does_not_know_never_gets_ready_and_says_why(
    stack: Stack, service: str
) -> None:
    with stack.stranger(service, nats_password=STRANGER_PASSWORD) as stranger:
        until(lambda: stranger.get("/livez").status == 200, seconds=START_SECONDS)
        until(
            lambda: "authorization violation" in stranger.log().lower(),
            seconds=START_SECONDS,
            why=f"refused\n{stranger.log()}",
        )
        ready = stranger.get("/readyz")
        log = stranger.log()

    assert ready.status == 503, ready
    assert STRANGER_PASSWORD not in log
    assert "Traceback" not in log


def refused(service: Service, *attempts: str) -> list[str]:
    """Which subjects NATS refuses to whoever has the service's credentials."""
    done = service.run_python(TRESPASS, *attempts)
    assert done.returncode == 0, done.stderr
    subjects: list[str] = json.loads(done.stdout)
    return subjects


def _subjects(attempts: Sequence[str]) -> list[str]:
    return sorted(attempt.split("=", 2)[1] for attempt in attempts)


async def test_the_posts_service_can_not_publish_in_the_gateways_place(stack: Stack) -> None:
    room = a_room()
    subject = publication_subject(ChannelName(f"chat:{room}"))
    forgery = f'publish={subject}={{"data":{{"text":"who said this?"}}}}'
    ada = await sign_up(stack, "Ada")
    async with passing_tabs_of(stack, [ada], room) as [tab]:
        by_posts = await asyncio.to_thread(refused, stack.posts, forgery)
        await tab.say("m", "between")
        by_gateway = await asyncio.to_thread(refused, stack.gateways[0], forgery)
        await tab.until(lambda frame: frame["type"] == "publication")

    assert by_posts == [subject]
    assert by_gateway == [], "it would have worked"
    kinds = [frame["type"] for frame in tab.frames if frame["type"] in ("message", "publication")]
    assert kinds == ["message", "publication"]


def test_a_services_credentials_are_good_for_its_own_work_only(stack: Stack) -> None:
    nobodys = [
        "publish=$JS.API.STREAM.DELETE.RT={}", "publish=$JS.API.STREAM.PURGE.RT={}",
        "publish=$JS.API.STREAM.CREATE.MINE={}", "publish=rt.live.chat:lobby={}",
        "subscribe=>", "subscribe=_INBOX.>", "subscribe=$SYS.>",
    ]  # fmt: skip
    of_gateways = [
        "publish=rt.pub.chat:lobby={}", "publish=eph.chat:lobby={}", "publish=pres.st.a.b.c={}",
        "subscribe=rt.live.>", "subscribe=eph.>", "subscribe=_INBOX_gateway.>",
        "publish=gw.all.disconnect={}", "subscribe=gw.>",
    ]  # fmt: skip
    of_auth = ["publish=ctl.pub.auth.revoked={}", "publish=events.auth.e={}"]
    of_posts = ["publish=events.posts.e={}", "subscribe=_INBOX_posts.>"]

    for service, forbidden in (
        (stack.posts, [*nobodys, *of_gateways, *of_auth]),
        (stack.auth, [*nobodys, *of_gateways, *of_posts]),
        (stack.gateways[0], [*nobodys, *of_auth, *of_posts]),
    ):
        assert refused(service, *forbidden) == _subjects(forbidden), service.name
