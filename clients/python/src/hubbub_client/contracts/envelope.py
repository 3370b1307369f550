"""Events: facts that services tell each other, in one versioned envelope."""

from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, field_validator

from hubbub_client.contracts.ids import ChannelName, JsonUserId
from hubbub_client.contracts.publications import Publication


class Envelope(BaseModel):
    """An event as it crosses the bus, on ``events.<service>.<type>``.

    ``data`` is absolute ("12 likes", never "one more"), so hearing it twice is harmless.
    Each recipient's personal channel and each channel gets one publication of it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")  # readers outlive writers' new fields

    v: Literal[1] = 1
    id: str = Field(default_factory=lambda: str(uuid4()), min_length=1, max_length=64)
    type: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    time: datetime = Field(default_factory=lambda: datetime.now(UTC))
    traceparent: str | None = None
    """W3C trace context of the request that caused it."""
    recipients: tuple[JsonUserId, ...] = ()
    """Users to be notified, on their personal channels."""
    channels: tuple[ChannelName, ...] = ()
    """Channels that get it too, beside the recipients' own."""
    data: dict[str, Any]

    @field_validator("data")
    @classmethod
    def _can_be_published(cls, data: dict[str, Any]) -> dict[str, Any]:
        Publication(data).encode()
        return data

    def to_publication_data(self) -> dict[str, Any]:
        """What subscribers see: the data, the event's name as ``event`` and its ``id``."""
        return {**self.data, "event": self.type, "id": self.id}
