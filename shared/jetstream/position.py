"""A position in a stream, and whether it is still valid after a disconnect."""

from typing import NamedTuple

from hubbub_client.jetstream.api import StreamState
from hubbub_client.jetstream.stream_reader import StreamReader

EPOCH_CHANGED = "the stream was made anew"
ROLLED_BACK = "the stream's sequences were rolled back"
RETENTION = "the stream no longer holds what comes next"


class Position(NamedTuple):
    """Up to where a stream was read."""

    epoch: str
    sequence: int
    time: str
    """When the message at the sequence was stored; empty if unknown."""


async def why_invalid(position: Position, state: StreamState, reader: StreamReader) -> str | None:
    """Why reading can't continue after the position, or None if it can.

    A server that lost its last writes gives their sequences to other messages in the same epoch.
    So the message at the position must still have the same time.

    Raises:
        BusUnavailable: no answer.
    """
    if position.epoch != state.epoch:
        return EPOCH_CHANGED
    if position.sequence > state.last:
        return ROLLED_BACK
    if not position.sequence or not position.time:
        return None
    # The first message from there on. If it is another one, or there is none, ours was removed or
    # the replica lags: there is nothing to compare.
    found = await reader.batch({"seq": position.sequence, "batch": 1})
    for message in found.messages:
        if message.sequence == position.sequence and message.time != position.time:
            return ROLLED_BACK
    return None
