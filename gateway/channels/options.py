"""The options of a namespace: what is kept of its channels, and who may do what in them. Pure.

They have the names that Centrifugo gives them. Four are ours, and stand for some of those:
`subscribe`, `publish`, `history` and `presence` say in a word what most namespaces need. What
they stand for can be said by itself instead, never both.
"""

import re
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from shared.contracts.channels import listed_users, name_of
from shared.contracts.ids import ChannelName, UserId

_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ms|[smh])")
_SECONDS_OF = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


def _as_seconds(value: object) -> object:
    """Read a duration as Go writes it, `1h30m`; what is none is left for pydantic to refuse."""
    text = value.strip() if isinstance(value, str) else ""
    parts = _DURATION.findall(text)
    if not parts or "".join(map("".join, parts)) != text:
        return value
    return sum(float(number) * _SECONDS_OF[unit] for number, unit in parts)


Duration = Annotated[float, Field(gt=0), BeforeValidator(_as_seconds)]
"""Seconds, as a number or as `300s`, `5m`, `1h30m`."""


class Who(StrEnum):
    """Who may subscribe to a channel, or publish into it."""

    USERS = "users"
    """Any signed-in user, and services."""
    SERVICES = "services"
    """Nobody over a connection."""

    @classmethod
    def _missing_(cls, value: object) -> "Who | None":
        """As it is spelled in upper case, or with blanks around it."""
        spelled = value.strip().lower() if isinstance(value, str) else value
        return next((who for who in cls if who == spelled), None)


class Allowed(NamedTuple):
    """Whom something is allowed for; anonymous ones need `for_anonymous` beside another."""

    for_client: bool
    for_subscriber: bool
    for_anonymous: bool


def _if_said(name: str, *values: object) -> Callable[[dict[str, Any]], bool]:
    """The default of an option that another one is short for."""
    return lambda said: said[name] in values


class Namespace(BaseModel):
    """The options of all channels that begin with one word."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # In a word.
    subscribe: Who = Who.USERS
    publish: Who = Who.SERVICES
    history: bool = True
    """Whether what was published may be read again: `since`, history, recovery."""
    presence: bool = False
    """Whether it is kept who is in the channel."""
    join_leave: bool = False
    """Whether its subscribers hear who comes and goes, if they ask for it."""
    force_push_join_leave: bool = False
    """Whether they hear it without asking."""

    # What is read back of the stream, which has no limit of a channel's own.
    history_size: Annotated[int, Field(gt=0)] | None = None
    """At most so many publications; None for all that the stream holds."""
    history_ttl: Duration | None = None
    """None older than that."""
    force_positioning: bool = False
    allow_positioning: bool = False
    force_recovery: bool = False
    allow_recovery: bool = False
    force_recovery_mode: Literal["stream", "cache"] = "stream"
    auto_cache_recover: bool = False

    # How it is sent.
    allowed_delta_types: frozenset[Literal["fossil"]] = frozenset()
    delta_publish: bool = False
    allow_tags_filter: bool = False
    publication_data_format: Literal["", "json", "json_object"] = ""

    # Who may do what. The anonymous user needs `…_for_anonymous` beside one of the others.
    allow_subscribe_for_client: bool = Field(default_factory=_if_said("subscribe", Who.USERS))
    allow_subscribe_for_anonymous: bool = False
    allow_publish_for_client: bool = False
    """Whether or not they are subscribed; here and below."""
    allow_publish_for_subscriber: bool = Field(default_factory=_if_said("publish", Who.USERS))
    allow_publish_for_anonymous: bool = False
    allow_presence_for_client: bool = False
    allow_presence_for_subscriber: bool = Field(default_factory=_if_said("presence", True))
    allow_presence_for_anonymous: bool = False
    allow_history_for_client: bool = False
    allow_history_for_subscriber: bool = Field(default_factory=_if_said("history", True))
    allow_history_for_anonymous: bool = False
    allow_user_limited_channels: bool = False
    """Whether what stands behind the last `#` of a name are the users whom it is for."""
    channel_regex: re.Pattern[str] | None = None
    """That is found in what stands behind the namespace."""

    @field_validator("channel_regex", mode="before")
    @classmethod
    def _compile(cls, pattern: object) -> object:
        if not isinstance(pattern, str):
            return pattern
        try:
            return re.compile(pattern) if pattern else None
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None

    @model_validator(mode="after")
    def _check_join_leave(self) -> Self:
        if self.join_leave and not self.presence:
            raise ValueError("join_leave needs presence")
        return self

    @property
    def publishing(self) -> Allowed:
        return Allowed(
            self.allow_publish_for_client,
            self.allow_publish_for_subscriber,
            self.allow_publish_for_anonymous,
        )

    @property
    def seeing_presence(self) -> Allowed:
        return Allowed(
            self.allow_presence_for_client,
            self.allow_presence_for_subscriber,
            self.allow_presence_for_anonymous,
        )

    @property
    def reading_history(self) -> Allowed:
        return Allowed(
            self.allow_history_for_client,
            self.allow_history_for_subscriber,
            self.allow_history_for_anonymous,
        )

    def users_listed_in(self, channel: ChannelName) -> Collection[UserId] | None:
        """Whom the channel's name says that it is for; None if it doesn't say."""
        return listed_users(channel) if self.allow_user_limited_channels else None

    def takes_name(self, channel: ChannelName) -> bool:
        """Whether a channel of this namespace may be called so."""
        return self.channel_regex is None or bool(self.channel_regex.search(name_of(channel)))

    def takes_data(self, data: object) -> bool:
        """Whether this may be published; any JSON value, or an object."""
        return self.publication_data_format != "json_object" or isinstance(data, dict)


class PersonalOptions(Namespace):
    """Of personal channels: their owners have them without asking, and recover them."""

    force_recovery: bool = True


DEFAULT_NAMESPACES: Mapping[str, Namespace] = {
    "chat": Namespace(publish=Who.USERS, presence=True, join_leave=True),
    "post": Namespace(),
}
