"""What a token says once its signature was checked: of a connection, or of one subscription."""

import base64
import math
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, NamedTuple, NewType

import pydantic_core

from hubbub_client.contracts.channels import BadChannelName, parse_channel
from hubbub_client.contracts.ids import ChannelName, ConnectionId, UserId
from hubbub_client.contracts.json_values import RawJson, fault_of
from shared.tokens.errors import InvalidToken

SessionId = NewType("SessionId", str)
"""A sign-in: the `sid` of every token that descends from it."""

MAX_NAME_CHARS = 64
MAX_SESSION_ID_CHARS = 64
NEVER = math.inf
"""When what has no end ends."""

_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}
_BIDI_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_TIMES_END = 2.0**53


@dataclass(frozen=True, slots=True)
class ChannelOverride:
    """Options of a channel that a token sets for its own subscription; None leaves one alone."""

    presence: bool | None = None
    join_leave: bool | None = None
    force_push_join_leave: bool | None = None
    force_recovery: bool | None = None
    force_positioning: bool | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token says of one subscription."""

    info: RawJson | None = None
    """Shown to the others in the channel as the subscriber's `chan_info`."""
    data: RawJson | None = None
    """For the subscriber alone, with the answer."""
    override: ChannelOverride | None = None


NO_CHANNELS: Mapping[ChannelName, Grant] = MappingProxyType({})
NO_GRANT = Grant()


@dataclass(frozen=True, slots=True)
class Claims:
    """What a connection's token says, verified. Times are unix seconds.

    A gateway holds tens of thousands, so what most tokens don't say is shared or None.
    """

    user_id: UserId
    name: str
    session_id: SessionId | None
    issued_at: float | None
    expires_at: float
    """When the connection is over: the claim `expire_at`, or else `exp`; maybe `NEVER`."""
    key: str = ""
    """What vouches for it: the thumbprint of a public key, or the name of an HMAC secret."""
    issuer: str = ""
    """Whose key that is, by the verifier's name for it."""
    token_expires_at: float = NEVER
    """When the token is taken no more: `exp`."""
    info: RawJson | None = None
    """Shown to others as the connection's `conn_info`."""
    channels: Mapping[ChannelName, Grant] = field(default_factory=lambda: NO_CHANNELS)
    """What the connection is subscribed to without asking: the claim `subs`, or `channels`."""
    meta: RawJson | None = None
    """For the application that is asked about the connection, and for nobody else."""

    @property
    def is_of_token(self) -> bool:
        """Whether a token says so; else the application did, or nobody."""
        return bool(self.issuer)


@dataclass(frozen=True, slots=True)
class SubscriptionClaims:
    """What a subscription's token says, verified, and compared with who shows it."""

    user_id: UserId
    channel: ChannelName
    client_id: str | None
    """The one connection that it is for; None for any of the user's."""
    session_id: SessionId | None
    issued_at: float | None
    expires_at: float
    """When the subscription is over: the claim `expire_at`, or else `exp`; maybe `NEVER`."""
    grant: Grant = NO_GRANT
    key: str = ""
    """As in `Claims`."""
    issuer: str = ""
    token_expires_at: float = NEVER


class Subscriber(NamedTuple):
    """Who shows a subscription's token, and for what."""

    user_id: UserId
    client_id: ConnectionId
    channel: ChannelName | None
    """None for whatever the token says."""


def read_time(values: Mapping[str, Any], claim: str) -> float | None:
    """A claim that is a time, if there is one; neither ``"12"`` nor ``true`` is a time.

    Raises:
        InvalidToken: it is no time.
    """
    value = values.get(claim)
    if value is None:
        return None
    if type(value) in (int, float) and -_TIMES_END < value < _TIMES_END:
        return float(value)
    raise InvalidToken(f"the token's `{claim}` is no time")


def read_end(values: Mapping[str, Any], expires_at: float) -> float:
    """When what the token grants is over, where the token itself is until ``expires_at``.

    Raises:
        InvalidToken: `expire_at` is no time.
    """
    end = read_time(values, "expire_at")
    if end is None:
        return expires_at
    return end if end > 0 else NEVER


def read_channels(values: Mapping[str, Any]) -> Mapping[ChannelName, Grant]:
    """What the token subscribes its connection to; `subs` wins over `channels`.

    Raises:
        InvalidToken: they are not readable.
    """
    subs, channels = values.get("subs"), values.get("channels")
    if subs:
        if type(subs) is not dict:
            raise InvalidToken("the token's `subs` is no object")
        return {_channel(name): _sub(of_one) for name, of_one in subs.items()}
    if channels:
        if type(channels) is not list:
            raise InvalidToken("the token's `channels` is no list")
        return {_channel(name): NO_GRANT for name in channels}
    return NO_CHANNELS


def read_channel(values: Mapping[str, Any]) -> ChannelName:
    """The channel that a subscription token is for.

    Raises:
        InvalidToken: there is none.
    """
    channel = values.get("channel")
    if not channel:
        raise InvalidToken("the token names no channel, so it is none for a subscription")
    return _channel(channel)


def read_grant(values: Mapping[str, Any]) -> Grant:
    """What the token says of its subscription.

    Raises:
        InvalidToken: it is not readable.
    """
    override = values.get("override")
    grant = Grant(
        info=read_raw(values, "info"),
        data=read_raw(values, "data"),
        override=None if override is None else _override(override),
    )
    return NO_GRANT if grant == NO_GRANT else grant


def read_raw(values: Mapping[str, Any], name: str) -> RawJson | None:
    """A claim of any JSON value, or its base64 form, as it is written in frames.

    Raises:
        InvalidToken: not every client could read that.
    """
    encoded = values.get(f"b64{name}")
    value = values.get(name) if not encoded else _decoded(encoded, name)
    if value is None:
        return None
    if fault_of(value) is None:
        with suppress(pydantic_core.PydanticSerializationError):  # half a surrogate pair
            return RawJson(pydantic_core.to_json(value))
    raise InvalidToken(f"the token's `{name}` is not readable by all")


def shown_name(name: object) -> str:
    """A name as it may stand before others: no control characters, no direction tricks, short."""
    if not isinstance(name, str):
        return ""
    if name.isascii() and name.isprintable():
        return name.strip()[:MAX_NAME_CHARS].rstrip()
    kept = (
        character
        for character in name[: 4 * MAX_NAME_CHARS]
        if character not in _BIDI_OVERRIDES and unicodedata.category(character) not in _UNPRINTABLE
    )
    return "".join(kept).strip()[:MAX_NAME_CHARS].rstrip()


def _decoded(encoded: object, name: str) -> Any:
    try:
        if isinstance(encoded, str):
            return pydantic_core.from_json(base64.b64decode(encoded, validate=True))
    except ValueError:
        pass
    raise InvalidToken(f"the token's `b64{name}` is no JSON in base64")


def _channel(name: object) -> ChannelName:
    try:
        if isinstance(name, str):
            return parse_channel(name)
    except BadChannelName:
        pass
    raise InvalidToken("the token names a channel that can't be")


def _sub(values: object) -> Grant:
    if values is None:
        return NO_GRANT
    if type(values) is not dict:
        raise InvalidToken("the token's `subs` is not readable")
    return read_grant(values)


_OVERRIDES = tuple(field.name for field in fields(ChannelOverride))


def _override(values: object) -> ChannelOverride:
    if type(values) is not dict:
        raise InvalidToken("the token's `override` is no object")
    return ChannelOverride(**{name: _switch(values.get(name)) for name in _OVERRIDES})


def _switch(value: object) -> bool | None:
    if value is None:
        return None
    if type(value) is dict and type(value.get("value", False)) is bool:
        switched: bool = value.get("value", False)
        return switched
    raise InvalidToken('the token\'s `override` has an option that is not {"value": …}')
