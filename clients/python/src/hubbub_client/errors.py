"""What may go wrong, each with a code that stays the same."""

from typing import ClassVar


class HubbubError(Exception):
    """A command was not done, or nobody knows whether it was."""

    code: ClassVar[str] = "error"


class Unavailable(HubbubError):
    """There was no good answer before the deadline. With the same key it may be tried again."""

    code = "unavailable"


class Unauthorized(HubbubError):
    """The API key is not the gateway's."""

    code = "unauthorized"


class BadRequest(HubbubError):
    """The gateway does not understand what it was asked for."""

    code = "bad_request"


class TooLarge(HubbubError):
    """A publication, or an event, has at most 64 KiB."""

    code = "too_large"


class UnknownChannel(HubbubError):
    """No namespace has such a channel."""

    code = "unknown_channel"


class NotAvailable(HubbubError):
    """The channel, or this server, does not have that."""

    code = "not_available"


class PositionLost(HubbubError):
    """The history does not reach back to that position, or it is another stream's."""

    code = "position_lost"


class IdempotencyKeyReused(HubbubError):
    """Other data was published with this key."""

    code = "idempotency_key_reused"


class UnexpectedAnswer(HubbubError):
    """What answers at this address is no gateway, or one that is too new."""

    code = "unexpected_answer"
