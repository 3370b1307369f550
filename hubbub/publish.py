"""`hubbub publish`: one publication, or many from standard input."""

import asyncio
import sys
import time
from collections.abc import AsyncIterable
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel, ConfigDict, ValidationError

from gateway.channels.namespaces import Namespaces
from hubbub.bus_access import bus_of, named_bus
from hubbub.channels import known_channels, why_not_store
from hubbub.errors import CommandFailed
from hubbub.lines import lines_of
from hubbub_client.bus.publications import is_same_data
from hubbub_client.contracts import json_values
from hubbub_client.contracts.channels import BadChannelName, parse_channel
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import BadPublication, Publication
from hubbub_client.jetstream.api import JetStreamApi
from hubbub_client.jetstream.publisher import PubAck, Publisher, start_publisher
from hubbub_client.jetstream.publishing import publish
from hubbub_client.nats.client import Bus
from hubbub_client.nats.errors import BusUnavailable, MessageRejected
from shared.runtime.process import run, stop_signals
from shared.runtime.settings import ServiceSettings, read_settings
from shared.runtime.telemetry import configure_logging

DEADLINE_SECONDS = 10.0
MAX_IN_FLIGHT = 1000


class Line(BaseModel):
    """One line of standard input."""

    model_config = ConfigDict(strict=True, extra="forbid")  # a misspelt "key" would be no key

    channel: str
    data: Any
    key: str | None = None
    """The same key in the same channel is stored once."""


class BadLine(ValueError):
    """The line can't be published; ``str`` says why."""


def read_json(text: str | bytes) -> Any:
    """Read one JSON value.

    Raises:
        BadLine: it is not JSON.
    """
    try:
        return json_values.read_json(text)
    except ValueError as error:
        raise BadLine(f"not JSON: {error}") from error


def read_line(line: bytes | None) -> tuple[ChannelName, Line]:
    """Read one line of standard input; None is one that was too long.

    Raises:
        BadLine: it can't be published.
    """
    if line is None:
        raise BadLine("too long")
    try:
        read = Line.model_validate(read_json(line))
        return parse_channel(read.channel), read
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadLine(f"{where}: {first['msg']}" if where else first["msg"]) from error
    except BadChannelName as error:
        raise BadLine(f"channel: {error}") from error


def check_channel(channels: Namespaces, channel: ChannelName, data: Any) -> None:
    """
    Raises:
        BadLine: no service may publish that there.
    """
    refusal = why_not_store(channels, channel, data)
    if refusal is not None:
        raise BadLine(f"{channel}: {refusal}")


async def store(
    bus: Bus, publisher: Publisher, channel: ChannelName, data: Any, *, key: str | None
) -> PubAck:
    """Publish the value; what its key has stored before has to be the same, as with `/api`.

    Raises:
        BadLine: the key stands for other data.
        BusUnavailable, MessageRejected, BadPublication: as `publish` says.
    """
    stored = await publish(publisher, channel, data, key=key, deadline_seconds=DEADLINE_SECONDS)
    if stored.duplicate:
        first = await JetStreamApi(bus).get_message("RT", {"seq": stored.offset})
        if first is not None and not is_same_data(first.payload, Publication(data).encode()):
            raise BadLine(f"the key stands for other data, at offset {stored.offset}")
    return stored


async def publish_one(
    bus: Bus, channels: Namespaces, channel: str, text: str, *, key: str | None
) -> None:
    """Publish the JSON value and print its offset."""
    try:
        name, data = parse_channel(channel), read_json(text)
        check_channel(channels, name, data)
    except (BadChannelName, BadLine) as error:
        raise CommandFailed(f"cannot publish: {error}") from error
    async with start_publisher(bus) as publisher:
        try:
            stored = await store(bus, publisher, name, data, key=key)
        except (BadLine, BadPublication) as error:
            raise CommandFailed(f"cannot publish: {error}") from error
    again = " (it was there already)" if stored.duplicate else ""
    click.echo(f"stored at offset {stored.offset}{again}")


class _Tally:
    """Counts of stored and failed lines, shown at the end."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self.stored = 0
        self.failed = 0

    def fail(self, number: int, reason: object) -> None:
        self.failed += 1
        click.echo(f"line {number}: {reason}", err=True)

    def summary(self) -> str:
        seconds = time.monotonic() - self._started
        rate = self.stored / seconds if seconds else 0
        return f"{self.stored} stored, {self.failed} failed in {seconds:.2f} s ({rate:.0f}/s)"


async def publish_lines(
    bus: Bus,
    channels: Namespaces,
    lines: AsyncIterable[bytes | None],
    *,
    stop: asyncio.Event,
    max_in_flight: int = MAX_IN_FLIGHT,
) -> bool:
    """Publish the lines in order, many in flight at a time; print a summary at the end.

    A line that has to be sent again may be stored after later ones. ``stop`` ends the reading; what
    is in flight is still awaited.

    Returns:
        Whether all were stored.
    """
    tally = _Tally()
    room = asyncio.Semaphore(max_in_flight)
    async with (
        start_publisher(bus, window=max_in_flight) as publisher,
        asyncio.TaskGroup() as group,
    ):

        async def read_all() -> None:
            number = 0
            try:
                async for line in lines:
                    number += 1
                    await begin(number, line)
            except OSError as error:
                tally.fail(number + 1, f"the input can't be read further: {error.strerror}")

        async def begin(number: int, line: bytes | None) -> None:
            if line is not None and not line.strip():
                return
            try:
                channel, read = read_line(line)
                check_channel(channels, channel, read.data)
            except BadLine as error:
                tally.fail(number, error)
                return
            await room.acquire()
            group.create_task(_publish(bus, publisher, number, channel, read, tally, room))

        reading = group.create_task(read_all())
        stopping = group.create_task(stop.wait())
        await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        reading.cancel()
        stopping.cancel()
    click.echo(tally.summary())
    sys.stdout.flush()
    return not tally.failed


async def _publish(
    bus: Bus,
    publisher: Publisher,
    number: int,
    channel: ChannelName,
    line: Line,
    tally: _Tally,
    room: asyncio.Semaphore,
) -> None:
    try:
        await store(bus, publisher, channel, line.data, key=line.key)
    except (BadLine, BusUnavailable, MessageRejected, BadPublication) as error:
        tally.fail(number, error)
    else:
        tally.stored += 1
    finally:
        room.release()


def run_publish(
    channel: str, text: str | None, *, key: str | None, data: Path | None, nats: str | None
) -> bool:
    """Publish ``text``, or the lines of standard input; return whether all were stored."""
    configure_logging("ERROR", json=False)
    all_stored = True
    of_folder = named_bus(nats=nats, data=data, settings=read_settings(ServiceSettings)) is None
    channels = known_channels(data, of_folder=of_folder)

    async def main() -> None:
        nonlocal all_stored
        with stop_signals() as stop:
            async with bus_of(nats=nats, data=data, name="publish", user="operator") as bus:
                if text is not None:
                    await publish_one(bus, channels, channel, text, key=key)
                else:
                    lines = lines_of(sys.stdin.fileno())
                    all_stored = await publish_lines(bus, channels, lines, stop=stop)

    run(main())
    return all_stored
