"""What a doctor finds: nothing in a healthy system, and what to do about what is wrong in one."""

import asyncio
import json
import os
import re
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import make_url, text

from hubbub.bootstrap import stream_settings
from hubbub.cli import cli
from hubbub.doctor.bus import MANY_EVENTS
from hubbub.doctor.command import examined
from hubbub.doctor.databases import look_at_database
from hubbub.doctor.findings import Finding, Level, as_json, as_lines, bad, doubtful, good
from hubbub.doctor.services import look_at_services
from hubbub.doctor.subject import BusAddress, Subject, subject_of
from hubbub_client.jetstream.api import JetStreamApi
from hubbub_client.jetstream.clock import our_clock
from hubbub_client.nats.client import Bus, connect_bus
from hubbub_client.outbox.table import OutboxRow
from hubbub_client.sql.database import connect_database, transaction
from shared.jetstream.stream_configs import NOTIFY_CONSUMER, STREAMS
from shared.jetstream.streams import bootstrap
from shared.runtime.settings import ServiceSettings
from shared.sql.migrations import downgrade
from tests.fixtures.nats import NatsServer, StartServer
from tests.fixtures.ports import free_ports
from tests.fixtures.tcp import a_tcp_server

MEBIBYTE = 1024 * 1024


pytestmark = pytest.mark.usefixtures("bare_process")


@pytest.fixture
def server(nats_server: StartServer) -> NatsServer:
    return nats_server()


@pytest.fixture
async def bus(server: NatsServer) -> AsyncGenerator[Bus]:
    async with connect_bus(server.url, name="bootstrap") as connected:
        await connected.until_connected()
        await bootstrap(connected, stream_settings(ServiceSettings()))
        yield connected


def a_subject(
    nats_url: str, database_url: str | None = None, *, services: tuple[str, ...] = ()
) -> Subject:
    return Subject(
        ServiceSettings(),
        bus=BusAddress(nats_url, None, None, "doctor"),
        databases={"posts": make_url(database_url)} if database_url else {},
        services=services,
    )


def wrong(findings: list[Finding]) -> dict[str, tuple[Level, str]]:
    return {each.about: (each.level, each.says) for each in findings if each.level is not Level.OK}


@pytest.fixture
def database_kind() -> str:
    return "sqlite"


async def test_nothing_is_wrong_with_a_healthy_system(
    server: NatsServer, bus: Bus, migrated: Callable[[str], str]
) -> None:
    findings = await examined(a_subject(server.url, migrated("posts_service")))

    assert wrong(findings) == {}
    about = {each.about for each in findings}
    assert {"versions", "bus", "clock", "consumer notify", "database posts"} <= about
    assert {f"stream {name}" for name in STREAMS} <= about


async def test_a_bus_that_is_away_is_told_with_its_address_and_without_its_password() -> None:
    findings = await examined(a_subject(f"nats://me:sesame@127.0.0.1:{free_ports()}"))

    level, says = wrong(findings)["bus"]
    assert level is Level.ERROR
    assert "does not answer: [Errno 111]" in says
    assert "sesame" not in as_json(findings)


async def test_a_bus_that_refuses_the_password_is_told(nats_server: StartServer) -> None:
    server = nats_server('authorization { users: [ {user: "me", password: "open"} ] }')

    findings = await examined(a_subject(server.url.replace("//", "//me:sesame@")))

    level, says = wrong(findings)["bus"]
    assert (level, says.partition(" ")[2]) == (
        Level.ERROR,
        "does not let us in: Authorization Violation",
    )
    assert "sesame" not in as_json(findings)


async def test_a_bus_without_jetstream_is_told(nats_server: StartServer) -> None:
    findings = await examined(a_subject(nats_server(jetstream=False).url))

    assert set(wrong(findings).values()) == {(Level.ERROR, "JetStream does not answer")}


async def test_streams_and_consumer_that_are_missing_are_told(server: NatsServer) -> None:
    findings = await examined(a_subject(server.url))

    missing = {f"stream {name}" for name in STREAMS} | {"consumer notify"}
    assert wrong(findings).keys() == missing
    todo = {each.todo for each in findings if each.about in missing}
    assert todo == {"run `hubbub bootstrap`"}


async def test_a_stream_that_is_too_small_or_configured_otherwise_is_told(
    server: NatsServer, bus: Bus
) -> None:
    api = JetStreamApi(bus)
    small = {"max_bytes": 64 * MEBIBYTE, "duplicate_window": 10**9}
    await api.update_stream({**(await api.stream_info("RT")).config, **small})

    findings = await examined(a_subject(server.url))

    assert [each.says for each in findings if each.about == "stream RT"] == [
        "is smaller than meant: 64 MiB, not 1024 MiB; 0 MiB of 64 MiB used",
        "is configured otherwise: duplicate_window is 1 s, not 300 s",
    ]
    assert wrong(findings).keys() == {"stream RT"}


async def test_a_stream_that_soon_takes_nothing_more_is_an_error(
    server: NatsServer, bus: Bus
) -> None:
    api = JetStreamApi(bus)
    await api.update_stream({**(await api.stream_info("CTL")).config, "max_bytes": 2048})
    await bus.request("ctl.pub.auth.x", b"x" * 1900, timeout_seconds=20)

    findings = await examined(a_subject(server.url))

    first, *_ = [each for each in findings if each.about == "stream CTL"]
    assert (first.level, first.says[:14]) == (Level.ERROR, "is nearly full")


async def test_events_that_nobody_turns_into_notifications_are_told(
    server: NatsServer, bus: Bus
) -> None:
    for number in range(MANY_EVENTS):
        bus.send("events.posts.x", b"%d" % number)
    await bus.request("events.posts.x", b"the last", timeout_seconds=20)

    async with asyncio.timeout(20):  # for a moment the consumer does not know of what was stored
        while await pending(bus) <= MANY_EVENTS:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    findings = await examined(a_subject(server.url))

    says = f"{MANY_EVENTS + 1} events wait to be told to those whom they concern"
    assert wrong(findings) == {"consumer notify": (Level.WARNING, says)}


async def pending(bus: Bus) -> int:
    """The events that the consumer has yet to be given."""
    info = await JetStreamApi(bus).request("CONSUMER.INFO", "EVENTS", NOTIFY_CONSUMER)
    return int(info["num_pending"])


@pytest.mark.parametrize(("off", "where"), [(90, "90 s ahead of"), (-90, "90 s behind")])
async def test_a_clock_that_is_off_is_told(
    server: NatsServer, bus: Bus, off: float, where: str
) -> None:
    findings = await examined(a_subject(server.url), now=lambda: our_clock() + off)

    level, says = wrong(findings)["clock"]
    assert (level, where in says) == (Level.ERROR, True)


async def test_a_database_that_is_not_migrated_is_told_with_the_command(
    server: NatsServer, bus: Bus, migrated: Callable[[str], str]
) -> None:
    url = migrated("posts_service")
    await downgrade(url, "posts_service", "0002")

    [finding] = [
        each
        for each in await examined(a_subject(server.url, url))
        if each.about == "database posts"
    ]

    assert (finding.level, finding.says.partition(": ")[2]) == (
        Level.ERROR,
        "at revision 0002, not 0004",
    )
    assert "`hubbub migrate --service posts`" in finding.todo


async def test_the_database_of_another_service_is_told_and_not_to_be_migrated(
    server: NatsServer, bus: Bus, migrated: Callable[[str], str]
) -> None:
    findings = await examined(a_subject(server.url, migrated("auth_service")))

    [finding] = [each for each in findings if each.about == "database posts"]
    assert (finding.level, finding.says.partition(": ")[2]) == (
        Level.ERROR,
        "the database is another service's or application's",
    )
    assert finding.todo.startswith("see that HUBBUB_DATABASE_URL names the one of posts")


async def test_of_a_data_folder_no_variable_is_to_be_corrected(tmp_path: Path) -> None:
    (tmp_path / "posts.sqlite3").write_bytes(b"no database" * 1000)

    findings = await examined(subject_of(None, tmp_path, ()))

    [finding] = [each for each in findings if each.about == "database posts"]
    assert "damaged, or not a database: file is not a database" in finding.says
    assert "HUBBUB_" not in finding.todo


async def test_an_outbox_that_nobody_relays_is_told(migrated: Callable[[str], str]) -> None:
    url = make_url(migrated("posts_service"))
    async with connect_database(url) as sessions, transaction(sessions) as session:
        long_ago = datetime.now(UTC) - timedelta(hours=1)
        row = OutboxRow(id="1", subject="events.x", aggregate="", payload=b"", created_at=long_ago)
        session.add(row)

    found = await look_at_database("posts", url, migrate="", mend="")

    assert found.level is Level.WARNING
    assert re.search(
        r": 1 rows of its outbox wait to be sent, the oldest for 36\d\d s$", found.says
    )


async def test_a_database_of_a_newer_version_is_told(migrated: Callable[[str], str]) -> None:
    url = make_url(migrated("posts_service"))
    async with connect_database(url) as sessions, transaction(sessions) as session:
        await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    found = await look_at_database("posts", url, migrate="", mend="")

    assert (found.level, "at revision 9999, newer than 0004" in found.says) == (Level.WARNING, True)


async def test_a_database_that_is_not_there_is_told_and_not_made(
    server: NatsServer, bus: Bus, tmp_path: Path
) -> None:
    findings = await examined(a_subject(server.url, f"sqlite:///{tmp_path}/none"))

    assert wrong(findings).keys() == {"database posts"}
    assert "none" not in os.listdir(tmp_path)  # noqa: PTH208


async def test_a_service_that_does_not_answer_is_told(server: NatsServer, bus: Bus) -> None:
    origin = f"http://127.0.0.1:{free_ports()}"

    findings = await examined(a_subject(server.url, services=(origin,)))

    level, says = wrong(findings)[f"service {origin}"]
    assert (level, says.startswith("does not answer")) == (Level.ERROR, True)


async def test_services_are_asked_side_by_side_so_that_none_waits_for_one_that_hangs() -> None:
    both = asyncio.Barrier(2)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await both.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        writer.close()

    async with a_tcp_server(answer) as port, a_tcp_server(answer) as other:
        asked = (f"http://127.0.0.1:{port}", f"http://127.0.0.1:{other}")
        found = await look_at_services(asked, ask_seconds=20)

    assert [each.level for each in found] == [Level.OK] * 2


async def test_a_service_whose_answer_never_ends_is_told() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" ")
            await asyncio.sleep(0)
        writer.close()

    async with a_tcp_server(answer) as port:
        [found] = await look_at_services((f"http://127.0.0.1:{port}",), ask_seconds=0.1)

    assert (found.level, found.says.partition(":")[0]) == (Level.ERROR, "does not answer")


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999", "http://127.0.0.1:x", "//x", "ftp://x"])
async def test_a_service_at_a_url_where_none_can_be_is_told(url: str) -> None:
    [found] = await look_at_services((url,))

    assert (found.level, found.says.partition(":")[0]) == (Level.ERROR, "does not answer")


def test_the_environment_says_what_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBBUB_NATS_URL", "nats://posts:sesame@bus:4222")
    monkeypatch.setenv("HUBBUB_DATABASE_URL", "sqlite:////x")
    monkeypatch.setenv("HUBBUB_JWKS_URL", "http://auth/keys")

    subject = subject_of("posts", None, ("http://posts:8000",))

    assert subject.bus is not None
    assert subject.bus.inbox == "posts"
    assert [(name, url.database) for name, url in subject.databases.items()] == [("posts", "/x")]
    assert subject.services == ("http://posts:8000",)


def test_a_folder_on_which_nothing_runs_is_an_error_and_json_says_so_too(tmp_path: Path) -> None:
    here = ["doctor", "--data", str(tmp_path / "data")]

    lines, document = CliRunner().invoke(cli, here), CliRunner().invoke(cli, [*here, "--json"])

    assert (lines.exit_code, document.exit_code) == (1, 1)
    assert f"nothing runs on {tmp_path / 'data'}" in lines.stdout
    said = json.loads(document.stdout)
    assert said["level"] == "error"
    assert {"about", "level", "says", "do"} == said["findings"][0].keys()
    assert not (tmp_path / "data").exists()


def test_looking_at_a_folder_writes_nothing_into_it(tmp_path: Path) -> None:
    CliRunner().invoke(cli, ["doctor", "--data", str(tmp_path)])

    assert list(tmp_path.iterdir()) == []


def test_of_who_knows_a_url_alone_no_data_folder_is_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    subject = subject_of(None, None, ("http://gateway:8000",))

    assert (subject.folder, subject.bus, subject.databases) == (None, None, {})
    assert subject.services == ("http://gateway:8000",)


def test_a_wrong_setting_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBBUB_NATS_URL", "nats://")

    ended = CliRunner().invoke(cli, ["doctor"])

    assert ended.exit_code == 1
    assert ended.stdout.startswith("error    settings  HUBBUB_NATS_URL: 'nats://' is not the")


def test_each_finding_is_a_line_with_what_to_do_below_it() -> None:
    findings = [good("bus", "is there"), doubtful("disk", "is full", "make room")]

    assert list(as_lines([*findings, bad("x", "y", "z")])) == [
        "ok       bus   is there",
        "warning  disk  is full",
        "               -> make room",
        "error    x     y",
        "               -> z",
        "1 errors, 1 warnings",
    ]
