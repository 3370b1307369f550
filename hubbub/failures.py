"""Failures that an operator can fix, as one line each, without secrets."""

import errno

from hubbub.errors import CommandFailed
from hubbub_client.contracts.errors import AppError
from hubbub_client.nats.address import BadAddress
from hubbub_client.nats.errors import BusLost, MessageRejected
from shared.jetstream.streams import BootstrapFailed
from shared.runtime.environment import WrongSettings
from shared.runtime.listening import CannotListen

_WITH_MESSAGE = (
    AppError, BadAddress, BootstrapFailed, BusLost, CannotListen, CommandFailed, MessageRejected,
    WrongSettings,
)  # fmt: skip


def as_sentence(error: BaseException) -> str | None:
    """The message for the operator; None for a failure that needs its traceback."""
    if isinstance(error, BaseExceptionGroup):
        sentences = [as_sentence(each) for each in error.exceptions]
        known = dict.fromkeys(each for each in sentences if each is not None)
        return "; ".join(known) if all(sentences) else None
    if isinstance(error, OSError) and (error.filename or error.errno == errno.ENOSPC):
        where = f"{error.filename}: " if error.filename else ""
        advice = "; make room on that disk" if error.errno == errno.ENOSPC else ""
        return f"{where}{error.strerror}{advice}"
    return str(error) if isinstance(error, _WITH_MESSAGE) else None
