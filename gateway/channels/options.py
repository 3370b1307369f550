"""The options of a channel, and the namespaces that there are where none are set."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator


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
