"""A position in a stream, and whether it still holds after a disconnect."""

from typing import NamedTuple

from shared.jetstream.api import StreamState
from shared.jetstream.stream_reader import StreamReader

EPOCH_CHANGED = "the stream was made anew"
ROLLED_BACK = "the stream's sequences were rolled back"
RETENTION = "the stream no longer holds what comes next"


class Position(NamedTuple):
    """Up to where a stream was read."""

    epoch: str
    sequence: int
    time: str
    """When the message at the sequence was stored; empty if that isn't known."""


async def why_void(position: Position, state: StreamState, reader: StreamReader) -> str | None:
    """Why reading can't go on after the position, or None if it can.

    A server that lost its last writes gives their sequences to other messages under the
    same epoch, so the message at the position has to bear the time that it bore.

    Raises:
        BusUnavailable: no answer.
    """
    if position.epoch != state.epoch:
        return EPOCH_CHANGED
    if position.sequence > state.last:
        return ROLLED_BACK
    if not position.sequence or not position.time:
        return None
    # Not a read of that message alone: what is not found there may be gone, or not yet
    # with the replica that answers. Either way there is nothing to compare.
    found = await reader.batch({"seq": position.sequence, "batch": 1})
    for message in found.messages:
        if message.sequence == position.sequence and message.time != position.time:
            return ROLLED_BACK
    return None
