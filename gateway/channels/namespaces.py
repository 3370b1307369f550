"""Namespaces: which channels there are, with which options, and who may do what in them. Pure."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

from shared.contracts.channels import PERSONAL, PRIVATE, namespace_of, personal_channel
from shared.contracts.ids import ChannelName, UserId


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


class Namespace(BaseModel):
    """The options of all channels that begin with one word."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subscribe: Who = Who.USERS
    publish: Who = Who.SERVICES
    history: bool = True
    """Whether what was published may be read again: `since`, history, recovery."""
    presence: bool = False
    """Whether it is kept who is in the channel."""
    join_leave: bool = False
    """Whether its subscribers hear who comes and goes."""

    @model_validator(mode="after")
    def _check_join_leave(self) -> Self:
        if self.join_leave and not self.presence:
            raise ValueError("join_leave needs presence")
        return self


DEFAULT_NAMESPACES: Mapping[str, Namespace] = {
    "chat": Namespace(publish=Who.USERS, presence=True, join_leave=True),
    "post": Namespace(),
}

_USERS = Who.USERS  # as a member of the enum it costs half a microsecond each time
PERSONAL_OPTIONS = Namespace(subscribe=Who.SERVICES)  # its owner has it without asking


class Namespaces:
    """Answers every question of the form "may this user do that there?"."""

    def __init__(self, options: Mapping[str, Namespace] = DEFAULT_NAMESPACES) -> None:
        self._options = dict(options)

    def options_of(self, channel: ChannelName) -> Namespace | None:
        """The options of the channel, or None if there is no such namespace."""
        if channel.startswith(PERSONAL):
            return PERSONAL_OPTIONS
        return self._options.get(namespace_of(channel))

    def may_subscribe(self, channel: ChannelName, user_id: UserId) -> bool:
        """Whether the user may listen, with no subscription token."""
        if channel.startswith(PERSONAL):
            return channel == personal_channel(user_id)
        if channel.startswith(PRIVATE):
            return False
        options = self.options_of(channel)
        return options is not None and options.subscribe is _USERS

    def may_publish(self, channel: ChannelName, user_id: UserId) -> bool:
        """Whether the user may publish over a connection that listens to the channel."""
        options = self.options_of(channel)
        return (
            options is not None
            and options.publish is _USERS
            and self.may_subscribe(channel, user_id)
        )
