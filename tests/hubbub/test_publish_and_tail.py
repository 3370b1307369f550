import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from gateway.channels.namespaces import Namespaces
from hubbub.data_folder import DataFolder, Running
from hubbub.publish import publish_lines
from hubbub_client.contracts.channels import parse_channel
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.subjects import publication_subject
from hubbub_client.jetstream.publisher import start_publisher
from hubbub_client.nats.client import connect_bus
from shared.jetstream.streams import bootstrap
from tests.fixtures.commands import run_command
from tests.fixtures.nats import NatsServer

HUBBUB = [sys.executable, "-m", "hubbub"]
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
"""So that a missing flush shows."""
NOTHING: Mapping[str, str] = {}
NO_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture(scope="module")
def url(nats_url: str) -> str:
    """The run's server, on which the streams exist."""
    run_command("bootstrap", "--nats", nats_url, env=os.environ).check_returncode()
    return nats_url


@pytest.fixture
def channel(url: str) -> ChannelName:
    """A channel of this test's own."""
    return parse_channel(f"chat:{uuid4()}")


class Tail:
    """A running `hubbub tail` that listens already."""

    def __init__(self, *arguments: str, env: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [*HUBBUB, "tail", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env={**BUFFERED, **env},
            # What runs in the background of a shell ignores Ctrl-C, and so would its children.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )
        assert self.process.stderr is not None
        self.said = self.process.stderr.readline()
        assert self.said.startswith("listening to "), self.said + self.process.stderr.read()

    def line(self) -> dict[str, object]:
        assert self.process.stdout is not None
        read: dict[str, object] = json.loads(self.process.stdout.readline())
        return read


@pytest.fixture
def start_tail(url: str) -> Iterator[Callable[..., Tail]]:
    tails: list[Tail] = []

    def start(*arguments: str, nats: str = url, env: Mapping[str, str] = NOTHING) -> Tail:
        tails.append(Tail(*arguments, "--nats", nats, env=env))
        return tails[-1]

    yield start
    for tail in tails:
        tail.process.kill()
        tail.process.communicate()


def publish(
    *arguments: str, nats: str, lines: str | None = None, env: Mapping[str, str] = NOTHING
) -> subprocess.CompletedProcess[str]:
    command = ("publish", *arguments, "--nats", nats)
    if not env:
        return run_command(*command, input=lines or "", env=os.environ)
    return subprocess.run(  # it may be of how Python itself starts
        [*HUBBUB, *command],
        input=lines,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
        env={**os.environ, **env},
    )


def test_what_is_published_is_printed_a_json_line_each(
    url: str, channel: ChannelName, start_tail: Callable[..., Tail]
) -> None:
    tail = start_tail(channel)

    first = publish(channel, '{"price": 12.5}', nats=url)
    publish(f"{channel}x", '"of another channel"', nats=url)
    publish(channel, '"Grüße"', nats=url)

    line = tail.line()
    assert (line["channel"], line["data"]) == (channel, {"price": 12.5})
    assert first.stdout == f"stored at offset {line['offset']}\n"
    assert tail.line()["data"] == "Grüße"


@pytest.mark.parametrize(
    "env", [NO_LOCALE, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}], ids=str
)
def test_any_text_is_published_and_printed_whatever_the_locale(
    url: str, channel: ChannelName, start_tail: Callable[..., Tail], env: dict[str, str]
) -> None:
    tail = start_tail(channel, env=env)

    first = publish(channel, '"Grüße \\u2665 😀"', "--key", "schlüssel", nats=url, env=env)
    again = publish(channel, '"Grüße ♥ 😀"', "--key", "schlüssel", nats=url)

    assert (first.stderr, first.returncode) == ("", 0)
    assert tail.line()["data"] == "Grüße ♥ 😀"
    assert "it was there already" in again.stdout


def test_a_key_that_stands_for_other_data_is_refused(url: str, channel: ChannelName) -> None:
    first = publish(channel, '{"price": 1}', "--key", "k", nats=url)
    offset = first.stdout.split()[-1]

    other = publish(channel, '{"price": 2}', "--key", "k", nats=url)
    lines = [{"channel": channel, "data": {"price": each}, "key": "k"} for each in (1, 3)]
    many = publish("-", nats=url, lines="\n".join(map(json.dumps, lines)))

    why = f"the key stands for other data, at offset {offset}"
    assert (other.returncode, other.stdout) == (1, "")
    assert other.stderr == f"Error: cannot publish: {why}\n"
    assert many.returncode == 1
    assert many.stdout.startswith("1 stored, 1 failed")
    assert many.stderr == f"line 2: {why}\n"


def test_the_same_key_is_stored_once(url: str, channel: ChannelName) -> None:
    first = publish(channel, "1", "--key", "k", nats=url)
    second = publish(channel, "1", "--key", "k", nats=url)

    assert second.stdout == first.stdout.replace("\n", " (it was there already)\n")


def test_lines_are_published_in_their_order_and_counted(
    url: str, channel: ChannelName, start_tail: Callable[..., Tail]
) -> None:
    tail = start_tail(channel)
    lines = "".join(json.dumps({"channel": channel, "data": n}) + "\n" for n in range(3000))

    done = publish("-", nats=url, lines=lines)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3000 stored, 0 failed in ")
    assert [tail.line()["data"] for _ in range(3000)] == list(range(3000))


def test_bad_lines_are_named_and_the_others_published(url: str, channel: ChannelName) -> None:
    lines = [
        json.dumps({"channel": channel, "data": 1}),
        "{",
        "",
        '{"channel": "a b", "data": 1}',
        json.dumps({"channel": channel}),
        json.dumps({"channel": channel, "data": 1, "kye": "k"}),
        '{"channel": "c", "data": NaN}',
        '{"channel": "c", "data": 1e400}',
        json.dumps({"channel": "c", "data": "\ud83d"}),
        "9" * 2_000_000,
        json.dumps({"channel": channel, "data": 2}),  # without a newline
    ]

    done = publish("-", nats=url, lines="\n".join(lines))

    named = [line.partition(":")[0] for line in done.stderr.splitlines()]
    assert set(named) == {f"line {number}" for number in (2, 4, 5, 6, 7, 8, 9, 10)}
    assert "line 5: data: Field required" in done.stderr
    assert done.stdout.startswith("2 stored, 8 failed")
    assert done.returncode == 1


@pytest.mark.parametrize("data", ["1e400", "[" * 61 + "]" * 61, '"\\ud83d"', "NaN"])
def test_what_not_every_reader_could_read_is_refused_in_a_sentence(
    url: str, channel: ChannelName, data: str
) -> None:
    done = publish(channel, data, nats=url)

    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot publish: " in done.stderr
    assert "Traceback" not in done.stderr


async def test_no_more_lines_are_read_than_may_be_in_flight(
    nats_server: Callable[[], NatsServer],
) -> None:
    server = nats_server()
    taken = 0

    async def lines() -> AsyncGenerator[bytes | None]:
        nonlocal taken
        for number in range(100):
            taken += 1
            yield json.dumps({"channel": "chat:a", "data": number}).encode()

    async with connect_bus(server.url, name="test") as bus:
        await bus.until_connected()
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            publishing = group.create_task(
                publish_lines(bus, Namespaces(), lines(), stop=stop, max_in_flight=2)
            )
            for _ in range(100):
                await asyncio.sleep(0)  # without a limit, one turn of the loop would take them all
            assert taken == 3  # the third waits, since without streams nothing is stored
            await bootstrap(bus)

    assert publishing.result()
    assert taken == 100


def test_a_line_is_published_before_the_next_one_is_there(
    url: str, channel: ChannelName, start_tail: Callable[..., Tail]
) -> None:
    tail = start_tail(channel)
    with subprocess.Popen(
        [*HUBBUB, "publish", "-", "--nats", url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as publishing:
        assert publishing.stdin is not None
        publishing.stdin.write(json.dumps({"channel": channel, "data": "at once"}) + "\n")
        publishing.stdin.flush()

        assert tail.line()["data"] == "at once"

        publishing.send_signal(signal.SIGINT)  # while its input is open still
        said, _ = publishing.communicate(timeout=30)
    assert said.startswith("1 stored, 0 failed")
    assert publishing.returncode == 0


def test_tail_can_begin_with_what_the_stream_holds(
    url: str, channel: ChannelName, start_tail: Callable[..., Tail]
) -> None:
    publish(channel, '"before"', nats=url)

    tail = start_tail(channel, "--from-start")

    assert tail.line()["data"] == "before"


def test_tail_misses_nothing_while_the_server_is_away(
    nats_server: Callable[[], NatsServer], start_tail: Callable[..., Tail]
) -> None:
    server = nats_server()
    run_command("bootstrap", "--nats", server.url, env=os.environ).check_returncode()
    tail = start_tail("chat:a", nats=server.url)

    publish("chat:a", "1", nats=server.url)
    server.kill()
    server.start()
    publish("chat:a", "2", nats=server.url)

    assert [tail.line()["data"], tail.line()["data"]] == [1, 2]


async def test_tail_goes_on_after_what_is_no_publication(
    url: str, channel: ChannelName, start_tail: Callable[..., Tail]
) -> None:
    tail = start_tail(channel)
    async with connect_bus(url, name="test") as bus, start_publisher(bus) as publisher:
        await publisher.publish(publication_subject(channel), b"\xff", message_id=str(uuid4()))

    publish(channel, '"good"', nats=url)

    assert tail.line()["data"] == "good"


def test_tail_ends_without_complaint_on_ctrl_c(
    channel: ChannelName, start_tail: Callable[..., Tail]
) -> None:
    tail = start_tail(channel)

    tail.process.send_signal(signal.SIGINT)

    _, complaints = tail.process.communicate(timeout=30)
    assert (tail.process.returncode, complaints) == (0, "")


def test_tail_ends_without_complaint_when_nobody_reads(
    channel: ChannelName, start_tail: Callable[..., Tail]
) -> None:
    tail = start_tail(channel)
    assert tail.process.stdout is not None

    tail.process.stdout.close()

    assert tail.process.stderr is not None
    assert tail.process.stderr.read() == ""
    assert tail.process.wait(timeout=30) == 0


def test_a_data_folder_leads_to_the_bus(url: str, channel: ChannelName, tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    running = Running(pid=1, url="http://127.0.0.1:1", nats_url=url)
    with folder.announced(running, bus_urls={"operator": url}):
        done = run_command("publish", channel, "1", "--data", str(tmp_path), env=os.environ)

    assert done.stdout.startswith("stored at offset ")
