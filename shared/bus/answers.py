"""What JetStream answers to a message that was published. Pure."""

import json
import re
from typing import NamedTuple

from shared.bus.errors import MessageRejected
from shared.bus.headers import status

_SEQUENCE = re.compile(rb'"seq": ?(\d+)')
_DUPLICATE = re.compile(rb'"duplicate": ?true')
_STORED = re.compile(rb'\{"stream": ?"[^"]*", ?"seq": ?(\d+)(, ?"duplicate": ?true)?\}')
_DUPLICATE_IN_PROCESS = 10158  # its first attempt is being stored right now
_TEMPORARY_CODES = (408, 429)


class Stored(NamedTuple):
    """The bus has it."""

    offset: int
    """The sequence in its stream; of the first one, if this is a duplicate."""
    duplicate: bool


def read_answer(answer: bytes, headers: bytes | None) -> Stored | MessageRejected | None:
    """What became of a message; None if it is to be tried again."""
    plain = _STORED.fullmatch(answer)
    if plain is not None:
        return Stored(int(plain[1]), plain[2] is not None)
    if status(headers) is not None:  # 503: no stream takes it, or none has a leader
        return None
    if b'"error"' in answer:
        return rejection(answer)
    sequence = _SEQUENCE.search(answer)  # the answer says more, such as the stream's domain
    if sequence is None:
        return None
    return Stored(int(sequence[1]), _DUPLICATE.search(answer) is not None)


def rejection(answer: bytes) -> MessageRejected | None:
    """Why the message can never be stored, or None if it may be on another try."""
    error = json.loads(answer)["error"]
    code, err_code = error.get("code", 0), error.get("err_code", 0)
    if code in _TEMPORARY_CODES or not 400 <= code < 500 or err_code == _DUPLICATE_IN_PROCESS:
        return None
    return MessageRejected(err_code, error.get("description", ""))
