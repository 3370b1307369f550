"""Hubbub from an application: publish, notify, ask who is there."""

from hubbub_client.client import Hubbub
from hubbub_client.errors import (
    BadRequest,
    HubbubError,
    IdempotencyKeyReused,
    NotAvailable,
    PositionLost,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
    UnknownChannel,
)
from hubbub_client.events import event_name
from hubbub_client.exchange import Limits
from hubbub_client.publishing import PartlyPublished, Publish
from hubbub_client.results import Connection, History, Position, PresenceStats, Publication
from hubbub_client.sync_client import SyncHubbub

__all__ = [
    "BadRequest",
    "Connection",
    "History",
    "Hubbub",
    "HubbubError",
    "IdempotencyKeyReused",
    "Limits",
    "NotAvailable",
    "PartlyPublished",
    "Position",
    "PositionLost",
    "PresenceStats",
    "Publication",
    "Publish",
    "SyncHubbub",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "UnexpectedAnswer",
    "UnknownChannel",
    "event_name",
]
