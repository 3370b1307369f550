"""Failures that an operator can fix, as one line each, without secrets."""

import errno

from pydantic import ValidationError
from pydantic_settings.exceptions import SettingsError

from hubbub.errors import CommandFailed
from hubbub_client.contracts.errors import AppError
from hubbub_client.nats.address import BadAddress
from hubbub_client.nats.errors import BusLost, MessageRejected
from shared.jetstream.streams import BootstrapFailed
from shared.runtime.listening import CannotListen
from shared.runtime.settings import ServiceSettings

_WITH_MESSAGE = (
    AppError, BadAddress, BootstrapFailed, BusLost, CannotListen, CommandFailed, MessageRejected,
)  # fmt: skip


def as_sentence(error: BaseException) -> str | None:
    """The message for the operator; None for a failure that needs its traceback."""
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
    return str(error) if isinstance(error, _WITH_MESSAGE) else None


def problems_in(error: ValidationError) -> list[str]:
    """The problem of each variable, without its value, which may be a secret."""
    services = ServiceSettings.__subclasses__()  # those that are loaded, and so could be wrong
    prefixes = {each.__name__: each.model_config["env_prefix"] for each in services}
    prefix = prefixes.get(error.title, "HUBBUB_")
    return [
        _place(prefix, found["loc"]) + _in_our_words(found["type"], found["msg"])
        for found in error.errors(include_url=False, include_input=False, include_context=False)
        if found["type"] != "default_factory_not_called"  # of another option that is wrong
    ]


def _place(prefix: str, place: tuple[int | str, ...]) -> str:
    """The variable, and where in it: `HUBBUB_GATEWAY_NAMESPACES: chat.history_ttl: `."""
    if not place:
        return ""  # it is about several variables, and names them
    name, *rest = place
    variable = str(name) if str(name).isupper() else f"{prefix}{name}".upper()
    return f"{variable}: {'.'.join(map(str, rest))}: " if rest else f"{variable}: "


def _in_our_words(kind: str, message: str) -> str:
    return "no such option" if kind == "extra_forbidden" else message.removeprefix("Value error, ")


def unreadable(error: SettingsError) -> str:
    """Why a variable, or the file that it names, can't be read."""
    cause = error.__cause__
    if isinstance(cause, OSError):
        return f"{cause.filename}: {cause.strerror}"
    if isinstance(cause, UnicodeDecodeError):
        return f"{error}: it is not in UTF-8"
    return str(error if cause is None else cause)
