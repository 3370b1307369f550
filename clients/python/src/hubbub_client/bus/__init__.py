"""Hubbub over its bus: publish into channels, tell other services of events, consume events."""

from hubbub_client.bus.client import BusHubbub, connect
from hubbub_client.bus.events import Events
from hubbub_client.bus.failures import EventFailed
from hubbub_client.bus.handlers import Received
from hubbub_client.bus.limits import ConsumerLimits
from hubbub_client.nats.errors import BusLost

__all__ = [
    "BusHubbub",
    "BusLost",
    "ConsumerLimits",
    "EventFailed",
    "Events",
    "Received",
    "connect",
]
