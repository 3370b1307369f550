"""Failures that an operator can do something about, as one line each, without secrets."""

import errno

from pydantic import ValidationError
from pydantic_settings.exceptions import SettingsError

from hubbub.check_config import problems_in, unreadable
from hubbub.errors import CommandFailed
from shared.contracts.errors import AppError
from shared.jetstream.streams import BootstrapFailed
from shared.nats.address import BadAddress
from shared.nats.errors import BusLost, MessageRejected
from shared.runtime.listening import CannotListen

_SPEAKING = (
    AppError, BadAddress, BootstrapFailed, BusLost, CannotListen, CommandFailed, MessageRejected,
)  # fmt: skip


def as_sentence(error: BaseException) -> str | None:
    """What to tell the operator; None for a failure that needs its traceback."""
    if isinstance(error, BaseExceptionGroup):
        sentences = [as_sentence(each) for each in error.exceptions]
        known = dict.fromkeys(each for each in sentences if each is not None)
        return "; ".join(known) if all(sentences) else None
    if isinstance(error, ValidationError):
        return "; ".join(problems_in(error))
    if isinstance(error, SettingsError):
        return unreadable(error)
    if isinstance(error, OSError) and (error.filename or error.errno == errno.ENOSPC):
        where = f"{error.filename}: " if error.filename else ""
        advice = "; make room on that disk" if error.errno == errno.ENOSPC else ""
        return f"{where}{error.strerror}{advice}"
    return str(error) if isinstance(error, _SPEAKING) else None
