"""`hubbub tail`: every publication of a channel, one JSON line each."""

import asyncio
import codecs
import contextlib
import os
import select
import sys
from pathlib import Path
from typing import TextIO

import click
import pydantic_core

from hubbub.bus_access import bus_of
from hubbub.errors import CommandFailed
from hubbub_client.contracts.channels import BadChannelName, parse_channel
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import BadPublication, Publication
from hubbub_client.contracts.subjects import RT_LIVE, RT_PUB, token_of
from hubbub_client.jetstream.api import StoredMessage
from hubbub_client.nats.client import Bus
from shared.jetstream.follower import Follower
from shared.runtime.process import run, running
from shared.runtime.telemetry import configure_logging

CATCH_UP_SECONDS = 10.0
READER_CHECK_SECONDS = 0.5


class _Printer:
    """Prints the channel's publications, until nobody reads the output any more."""

    def __init__(self, channel: ChannelName, output: TextIO) -> None:
        self._channel = channel
        self._subject = token_of(channel)
        self._output = output
        # If the terminal is not UTF-8, other characters are escaped, and a line stays JSON.
        self._ensure_ascii = codecs.lookup(output.encoding).name != "utf-8"
        self.reader_gone = asyncio.Event()

    def deliver(self, message: StoredMessage) -> None:
        if message.subject != self._subject:
            return
        try:
            publication = Publication.decode(message.payload)
        except BadPublication:
            click.echo(f"not a publication: offset {message.sequence}", err=True)
            return
        line = {
            "channel": self._channel,
            "offset": message.sequence,
            "time": message.time,
            **publication.values(),
        }
        try:
            encoded = pydantic_core.to_json(line, ensure_ascii=self._ensure_ascii)
            self._output.write(encoded.decode() + "\n")
            self._output.flush()
        except BrokenPipeError:
            self.reader_gone.set()

    async def watch_reader(self) -> None:
        """Notice that the pipe's reader has gone, even if nothing is published."""
        poll = select.poll()
        poll.register(self._output.fileno(), 0)  # errors and hang-ups are always reported
        while not self.reader_gone.is_set():
            await asyncio.sleep(READER_CHECK_SECONDS)
            if any(happened & (select.POLLERR | select.POLLHUP) for _, happened in poll.poll(0)):
                self.reader_gone.set()


async def tail(bus: Bus, channel: ChannelName, *, from_start: bool) -> None:
    """Print until cancelled, or until nobody reads the output.

    Args:
        from_start: Begin with what the stream still holds.
    """
    printer = _Printer(channel, sys.stdout)
    follower = Follower(
        bus,
        "RT",
        RT_PUB,
        RT_LIVE,
        deliver=printer.deliver,
        on_reset=lambda reason: click.echo(f"started anew: {reason}", err=True),
        on_skipped=lambda first, last: click.echo(f"gone: offsets {first} to {last}", err=True),
        from_start=from_start,
    )
    async with running(follower.run, printer.watch_reader):
        try:
            # Reading a whole stream may take long; finding its end is quick.
            async with asyncio.timeout(None if from_start else CATCH_UP_SECONDS):
                await follower.until_caught_up()
        except TimeoutError:
            raise CommandFailed("the bus has no stream RT yet: run `hubbub bootstrap`") from None
        click.echo(f"listening to {channel} after offset {follower.position}", err=True)
        await printer.reader_gone.wait()
    _discard_rest(sys.stdout)


def _discard_rest(output: TextIO) -> None:
    """Let Python's flush at exit succeed, although the reader has gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, output.fileno())
    os.close(nowhere)


def run_tail(text: str, *, from_start: bool, data: Path | None, nats: str | None) -> None:
    """The command; Ctrl-C is its normal end."""
    configure_logging("ERROR", json=False)
    try:
        channel = parse_channel(text)
    except BadChannelName as error:
        raise CommandFailed(f"no channel: {error}") from error

    async def main() -> None:
        async with bus_of(nats=nats, data=data, name="tail", user="operator") as bus:
            await tail(bus, channel, from_start=from_start)

    with contextlib.suppress(KeyboardInterrupt):
        run(main())
