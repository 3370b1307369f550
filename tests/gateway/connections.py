"""A connection without a socket: it remembers what it was sent, and how it ended."""

import asyncio
import json
import secrets
from collections.abc import Coroutine
from typing import Any

import pytest
from websockets.frames import Frame as RawFrame
from websockets.frames import Opcode
from websockets.streams import StreamReader

from gateway.channels.connection import Close, Frame
from gateway.errors import EndReason
from gateway.transport.coalescer import NOTHING_MORE, STALLED, FrameBatch
from hubbub_client.contracts.ids import ConnectionId


class AConnection:
    """What `gateway.channels.connection.Connection` asks for; its own transport, too.

    What is fanned out is pending until the turn ends, as with a real one. All else is `sent` at
    once, though not before what is pending.
    """

    def __init__(self, group: asyncio.TaskGroup | None = None) -> None:
        """
        Args:
            group: Runs the work that is started; without it there may be none.
        """
        self.id = ConnectionId(secrets.token_hex(8))
        self.pending: FrameBatch | None = None
        self.sent: list[bytes] = []
        """Each write; more than one frame if they were pending together."""
        self.has_room = True
        """Whether it takes what it is offered while it is stalled."""
        self.closing: EndReason | Close | None = None
        self.closes_after: tuple[float, EndReason] | None = None
        self.is_lost = False
        self.is_paused = False
        self.is_behind = False
        self.fell_behind = 0
        """How often its time to catch up began."""
        self.under_way = 0
        self.failures: list[Exception] = []
        """What it was abandoned for."""
        self._group = group
        self._drained = asyncio.Event()

    @property
    def messages(self) -> list[Any]:
        """What was sent, as its peer reads it."""
        return [json.loads(text) for text in texts_in(b"".join(self.sent))]

    # What a test does with it.

    def stall(self) -> None:
        self.write_pending()
        self.pending = STALLED
        self._drained.clear()

    def drain(self) -> None:
        assert self.is_stalled
        self.pending = None
        self._drained.set()

    def lose(self) -> None:
        """Its socket is gone."""
        self.is_lost = True
        self.pending = NOTHING_MORE
        self._drained.set()

    # What it is asked for.

    @property
    def transport(self) -> Any:
        return self

    @property
    def is_open(self) -> bool:
        return self.closing is None and not self.is_lost

    @property
    def is_stalled(self) -> bool:
        return self.pending is STALLED

    @property
    def leaves_replies_unread(self) -> bool:
        return self.is_stalled and not self.has_room

    def write(self, data: bytes) -> None:
        assert self.pending is None, "nothing is due any more once it is written"
        self.sent.append(data)

    def write_pending(self) -> None:
        batch = self.pending
        if batch is not None and batch is not STALLED and batch is not NOTHING_MORE:
            self.pending = None
            self.write(batch.joined())

    def send(self, frame: Frame) -> None:
        self.write_pending()
        if self.pending is not NOTHING_MORE:
            self.sent.append(frame)

    def offer(self, frame: Frame) -> bool:
        assert self.is_stalled, "else it is sent"
        if self.has_room:
            self.sent.append(frame)
        return self.has_room

    async def until_drained(self) -> None:
        self.write_pending()
        await asyncio.sleep(0)
        if self.is_stalled:
            await self._drained.wait()

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        if self._group is None:
            work.close()
            raise AssertionError("work, and no group to run it")
        self._group.create_task(work)

    def begin_work(self) -> None:
        self.under_way += 1

    def end_work(self) -> None:
        self.under_way -= 1

    def close(self, reason: EndReason | Close) -> None:
        if self.is_open:
            self.write_pending()
            self._end(reason)

    def cut(self, reason: EndReason | Close) -> None:
        if self.is_open:
            self._end(reason)

    def _end(self, reason: EndReason | Close) -> None:
        self.closing = reason
        self.pending = NOTHING_MORE
        self._drained.set()

    def close_after(self, seconds: float, reason: EndReason) -> None:
        self.closes_after = (seconds, reason)

    def fall_behind(self) -> None:
        self.is_behind = True
        self.fell_behind += 1

    def keep_up(self) -> None:
        self.is_behind = False

    def abandon(self, error: Exception, event: str) -> None:
        self.failures.append(error)
        self.close(EndReason.INTERNAL_ERROR)


def texts_in(data: bytes) -> list[str]:
    """The text messages in what was written, by a parser that is none of ours."""
    reader, texts = StreamReader(), []
    reader.feed_data(data)
    reader.feed_eof()
    while not _is_read(reader):
        with pytest.raises(StopIteration) as parsed:
            next(RawFrame.parse(reader.read_exact, mask=False))
        raw: RawFrame = parsed.value.value
        assert raw.opcode is Opcode.TEXT
        texts.append(bytes(raw.data).decode())
    return texts


def _is_read(reader: StreamReader) -> bool:
    with pytest.raises(StopIteration) as answered:
        next(reader.at_eof())
    return bool(answered.value.value)
