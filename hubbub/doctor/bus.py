"""Looking at the bus: its server, streams, consumer and clock."""

import asyncio
import re
from collections.abc import Iterator

from hubbub.bootstrap import stream_settings
from hubbub.bus_access import CONNECT_SECONDS, why_away
from hubbub.doctor.findings import Finding, bad, doubtful, good
from hubbub.doctor.subject import BusAddress
from hubbub_client.jetstream.api import Config, ConsumerInfo, JetStreamApi, StreamInfo
from hubbub_client.jetstream.clock import Clock, trouble_with_clock
from hubbub_client.nats.address import BadAddress
from hubbub_client.nats.client import Bus, connect_bus
from hubbub_client.nats.errors import BusLost, BusUnavailable, NobodyAnswers, StreamMissing
from hubbub_client.urls import without_passwords
from shared.jetstream.stream_configs import (
    NOTIFY_CONSUMER,
    StreamSettings,
    consumer_config,
    stream_configs,
)
from shared.runtime.settings import ServiceSettings

LEAST_SERVER = (2, 11)
"""The first with what streams and consumer need: times to live, pinned clients."""
NEARLY_FULL = 0.9
MANY_EVENTS = 1000
"""That wait to be turned into notifications."""

_BOOTSTRAP = "run `hubbub bootstrap`"
_ROOM = (
    "give nats-server more room (its max_file_store, or its disk), and then run"
    " `hubbub bootstrap`; `up` does it at its next start"
)
_DURATIONS = {
    "ack_wait", "duplicate_window", "max_age", "priority_timeout", "subject_delete_marker_ttl",
}  # fmt: skip
"""In nanoseconds."""
_OWN_ROOM = {"max_bytes", "num_replicas"}
"""Of a stream's configuration, what depends on the server."""


async def look_at_bus(
    address: BusAddress, settings: ServiceSettings, *, now: Clock
) -> list[Finding]:
    """
    Args:
        now: Our clock, which is compared with the bus's.
    """
    shown = without_passwords(address.url)
    try:
        async with connect_bus(
            address.url, name=address.inbox, creds=address.creds, ca=address.ca
        ) as bus:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await bus.until_connected()
            except TimeoutError:
                return [_away(f"{shown} {why_away(bus)}", refused=bool(bus.not_allowed))]
            server = _server(bus, shown)
            return [server, *await _look_at_jetstream(bus, settings, now)]
    except (BadAddress, BusLost) as error:
        return [_away(f"{shown}: {error}")]


def _away(says: str, *, refused: bool = False) -> Finding:
    if refused:
        todo = "see that nats-server has this user and password, or these credentials"
    else:
        todo = "see that nats-server runs and that this is its address; what runs here waits for it"
    return bad("bus", says, todo)


def _server(bus: Bus, shown: str) -> Finding:
    says = f"nats-server {bus.server_version} at {shown}"
    numbers = tuple(int(each) for each in re.findall(r"\d+", bus.server_version)[:2])
    if numbers < LEAST_SERVER:
        return bad("bus", says, f"it has to be {'.'.join(map(str, LEAST_SERVER))} or newer")
    return good("bus", says)


async def _look_at_jetstream(bus: Bus, settings: ServiceSettings, now: Clock) -> list[Finding]:
    api = JetStreamApi(bus, now=now)
    meant = stream_configs(stream_settings(settings))
    async with asyncio.TaskGroup() as group:
        streams = {
            config["name"]: group.create_task(_found(api, bus, config["name"])) for config in meant
        }
        asking = group.create_task(_found_consumer(api, bus))
    found = {name: task.result() for name, task in streams.items()}
    findings = [
        finding for config in meant for finding in _on_stream(found[config["name"]], config)
    ]
    findings += _on_consumer(asking.result(), found["EVENTS"])
    known = [each for each in found.values() if isinstance(each, StreamInfo)]
    return [*_on_clock(known, settings), *findings]


async def _found(api: JetStreamApi, bus: Bus, stream: str) -> StreamInfo | Finding:
    about = f"stream {stream}"
    try:
        return await api.stream_info(stream)
    except StreamMissing:
        return bad(about, "is missing", _BOOTSTRAP)
    except BusUnavailable as unavailable:
        return _unseen(about, bus, unavailable)


async def _found_consumer(api: JetStreamApi, bus: Bus) -> ConsumerInfo | Finding:
    about = f"consumer {NOTIFY_CONSUMER}"
    try:
        found = await api.consumer_info("EVENTS", NOTIFY_CONSUMER)
    except StreamMissing:
        found = None
    except BusUnavailable as unavailable:
        return _unseen(about, bus, unavailable)
    return found or bad(about, "is missing: nobody is notified of events", _BOOTSTRAP)


def _unseen(about: str, bus: Bus, unavailable: BusUnavailable) -> Finding:
    if bus.not_allowed:
        todo = "look as the user operator or bootstrap, with the newest accounts.conf"
        return doubtful(about, "this user of the bus may not see it", todo)
    if isinstance(unavailable, NobodyAnswers):
        return bad(about, "JetStream does not answer", "start nats-server with it: `-js`")
    return bad(about, str(unavailable), "see the log of nats-server")


def _on_clock(known: list[StreamInfo], settings: ServiceSettings) -> Iterator[Finding]:
    if not known:
        return
    at_most = settings.max_clock_offset_seconds
    ahead = max((each.state.clock_ahead_seconds for each in known), key=abs)
    todo = "set the clocks by NTP: until then no service here is ready"
    troubles = [
        bad("clock", f"{trouble}, of which {at_most:g} s are allowed", todo)
        for trouble in trouble_with_clock(ahead, at_most=at_most)
    ]
    yield from troubles or [good("clock", f"agrees with the bus's within {at_most:g} s")]


def _on_stream(found: StreamInfo | Finding, meant: Config) -> Iterator[Finding]:
    if isinstance(found, Finding):
        yield found
        return
    about = f"stream {meant['name']}"
    room = found.config.get("max_bytes", 0)
    held = f"{_mebibytes(found.stored_bytes)} of {_mebibytes(room)} used"
    troubles = []
    if found.stored_bytes >= NEARLY_FULL * room > 0 and meant["discard"] == "new":
        says = f"is nearly full, {held}: soon it takes nothing more"
        troubles.append(bad(about, says, _ROOM))
    if 0 < room < meant["max_bytes"]:
        says = f"is smaller than meant: {_mebibytes(room)}, not {_mebibytes(meant['max_bytes'])}"
        troubles.append(doubtful(about, f"{says}; {held}", _ROOM))
    if drift := _drift(found.config, meant):
        troubles.append(doubtful(about, f"is configured otherwise: {drift}", _BOOTSTRAP))
    if not found.state.epoch:
        troubles.append(bad(about, "has no epoch", _BOOTSTRAP))
    replicas = found.config.get("num_replicas", 1)
    yield from troubles or [good(about, f"{held}, {replicas} replica{'s' * (replicas > 1)}")]


def _on_consumer(found: ConsumerInfo | Finding, events: StreamInfo | Finding) -> Iterator[Finding]:
    if isinstance(found, Finding):
        yield found
        return
    about = f"consumer {NOTIFY_CONSUMER}"
    if drift := _drift(found.config, consumer_config(StreamSettings())):
        yield doubtful(about, f"is configured otherwise: {drift}", _BOOTSTRAP)
    waiting = 0
    if isinstance(events, StreamInfo):
        waiting = max(0, events.state.last - max(found.ack_floor, events.state.first - 1))
    says = f"{waiting} events wait to be told to those whom they concern"
    if waiting >= MANY_EVENTS:
        yield doubtful(about, says, "see that a gateway is ready, and its log for notify_waits")
    else:
        yield good(about, says)


def _drift(found: Config, meant: Config) -> str:
    """In what they differ; other settings than ours may want messages to be kept for longer."""
    names = sorted(
        name
        for name in meant
        if name not in _OWN_ROOM
        and found.get(name) != meant[name]
        and not (name == "max_age" and found.get(name, 0) > meant[name])
    )
    return ", ".join(
        f"{name} is {_shown(name, found.get(name))}, not {_shown(name, meant[name])}"
        for name in names
    )


def _shown(name: str, value: object) -> str:
    if name in _DURATIONS and isinstance(value, int):
        return f"{value / 1e9:g} s"
    return str(value)


def _mebibytes(count: int) -> str:
    return f"{count / 1024 / 1024:.0f} MiB"
