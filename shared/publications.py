"""Publications as they lie in the RT stream: what any service may publish into a channel."""

from typing import Any

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.ids import UserId


class BadPublication(ValueError):
    """A message of the RT stream that no reader understands."""


class Sender(BaseModel):
    """Who published from a connection; services publish without one."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    user_id: UserId
    name: str


class Publication(BaseModel):
    """The body of one message on ``rt.pub.<channel>``: ``{"data": …, "sender"?, "event_id"?}``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    data: Any = Field()
    """Any JSON value. From `/ws/chat` it is ``{"body": "…"}``."""
    sender: Sender | None = None
    event_id: str | None = None
    """The event that it was made from, if any; a redelivered event is found again by it."""

    def encode(self) -> bytes:
        return pydantic_core.to_json(
            {key: value for key, value in self if key == "data" or value is not None}
        )

    @classmethod
    def decode(cls, payload: bytes) -> "Publication":
        """Read what `encode` wrote.

        Raises:
            BadPublication: anybody may write to the bus, so a reader must expect it.
        """
        try:
            return cls.model_validate_json(payload)
        except ValidationError as error:
            raise BadPublication("not a publication") from error
