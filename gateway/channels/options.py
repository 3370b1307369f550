"""The options of a namespace: what is kept of its channels, and who may do what in them. Pure.

They have the names that Centrifugo gives them. `subscribe`, `publish` and `history` are ours: with
`presence` they say in a word what most namespaces need, and stand for some of the others. Who asks
what is allowed asks for those.
"""

import re
import warnings
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from hubbub_client.contracts.channels import listed_users, name_of
from hubbub_client.contracts.ids import ChannelName, UserId

_DURATION = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ms|[smh])")
_SECONDS_OF = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


def _as_seconds(value: object) -> object:
    """Read a duration as Go writes it; numbers are left to pydantic."""
    if not isinstance(value, str):
        return value
    parts = _DURATION.findall(value)
    if not parts or "".join(map("".join, parts)) != value:
        raise ValueError("neither a number of seconds nor a duration such as 300s or 1h30m")
    return sum(float(number) * _SECONDS_OF[unit] for number, unit in parts)


Duration = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_as_seconds)]
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


def _where(name: str, value: object) -> Callable[[dict[str, Any]], bool]:
    """A default: on where another option, which stands before, has the value."""
    return lambda options: bool(options[name] == value)


_SAME = {"subscribe": "allow_subscribe_for_client", "publish": "allow_publish_for_subscriber"}
_NEEDS = {
    "join_leave": "presence",
    "force_push_join_leave": "join_leave",
    "history_size": "history",
    "history_ttl": "history",
    "force_positioning": "history",
    "allow_positioning": "history",
    "force_recovery": "history",
    "allow_recovery": "history",
    "delta_publish": "allowed_delta_types",
}
"""Options that are for nothing without another."""
_NEVER_EPHEMERAL = ("history", "allowed_delta_types")
"""What there is of stored publications only."""


class Namespace(BaseModel):
    """The options of all channels that begin with one word."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # In a word.
    subscribe: Who = Who.USERS
    publish: Who = Who.SERVICES
    ephemeral: bool = False
    """Whether what is published is for those alone who are there, and is not stored."""
    history: bool = Field(default_factory=_where("ephemeral", False))
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

    # What a subscription is: forced, or allowed to who asks for it. Who may read history may ask.
    force_positioning: bool = False
    """Whether it is told offsets and that it missed something."""
    allow_positioning: bool = False
    force_recovery: bool = False
    """Whether it is sent what it missed."""
    allow_recovery: bool = False
    force_recovery_mode: Literal["stream", "cache"] = "stream"
    """`cache`: the newest publication stands for all that was missed."""
    auto_cache_recover: bool = False
    """Whether who comes for the first time is sent it, too."""
    allowed_delta_types: frozenset[Literal["fossil"]] = frozenset()
    """What it may ask to be sent in place of whole publications."""
    allow_tags_filter: bool = False
    """Whether it may ask for publications with certain tags only."""

    # What is published.
    delta_publish: bool = False
    """Whether all of it may be sent as a delta, not only what asks for that."""
    publication_data_format: Literal["", "json", "json_object"] = ""
    """Any JSON, or an object."""

    # Whom the application lets: whatever is said below, unless a token or the name decides first.
    subscribe_proxy_enabled: bool = False
    """Whether it is asked who may subscribe."""
    publish_proxy_enabled: bool = False
    """Whether it is asked what may be published over a connection, and as what."""

    # Who may do what. The anonymous user needs `…_for_anonymous` beside one of the others.
    allow_subscribe_for_client: bool = Field(default_factory=_where("subscribe", Who.USERS))
    allow_subscribe_for_anonymous: bool = False
    allow_publish_for_client: bool = False
    """Whether or not they are subscribed; here and below."""
    allow_publish_for_subscriber: bool = Field(default_factory=_where("publish", Who.USERS))
    allow_publish_for_anonymous: bool = False
    allow_presence_for_client: bool = False
    allow_presence_for_subscriber: bool = Field(default_factory=_where("presence", True))
    allow_presence_for_anonymous: bool = False
    allow_history_for_client: bool = False
    allow_history_for_subscriber: bool = Field(default_factory=_where("history", True))
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
            with warnings.catch_warnings():
                warnings.simplefilter("error", FutureWarning)  # `[[:alpha:]]` means another thing
                return re.compile(pattern) if pattern else None
        except (re.error, FutureWarning) as error:
            raise ValueError(f"no regular expression: {error}") from None

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        said = self.model_fields_set
        problems = [
            f"{option} says the same as {other}: say one of them"
            for option, other in _SAME.items()
            if {option, other} <= said
        ]
        problems += [
            f"{option} needs {other}"
            for option, other in _NEEDS.items()
            if getattr(self, option) and not getattr(self, other)
        ]
        if self.ephemeral:
            problems += [
                f"{option} is of what is stored, and nothing ephemeral is"
                for option in _NEVER_EPHEMERAL
                if getattr(self, option)
            ]
        if self.auto_cache_recover and self.force_recovery_mode != "cache":
            problems.append("auto_cache_recover needs the force_recovery_mode cache")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @cached_property
    def publishing(self) -> Allowed:
        return Allowed(
            self.allow_publish_for_client,
            self.allow_publish_for_subscriber,
            self.allow_publish_for_anonymous,
        )

    @cached_property
    def seeing_presence(self) -> Allowed:
        return Allowed(
            self.allow_presence_for_client,
            self.allow_presence_for_subscriber,
            self.allow_presence_for_anonymous,
        )

    @cached_property
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

    force_recovery: bool = Field(default_factory=_where("history", True))

    @field_validator("ephemeral")
    @classmethod
    def _keeps_notifications(cls, ephemeral: bool) -> bool:
        if ephemeral:
            raise ValueError("notifications are stored")
        return ephemeral

    @field_validator("subscribe_proxy_enabled", "publish_proxy_enabled")
    @classmethod
    def _are_their_owners(cls, asks: bool) -> bool:
        if asks:
            raise ValueError("whose a personal channel is, its name says")
        return asks


DEFAULT_NAMESPACES: Mapping[str, Namespace] = {
    "chat": Namespace(publish=Who.USERS, presence=True, join_leave=True),
    "post": Namespace(),
}
