"""The streams: what each holds, for how long, and how they come into being."""

import asyncio
import hashlib
import json
import secrets
import time
from dataclasses import dataclass
from typing import Any

import structlog

from shared.jetstream.direct_get import stream_state
from shared.jetstream.subjects import (
    CTL_LIVE,
    CTL_PUB,
    EVENTS,
    PRES_LIVE,
    PRES_PUB,
    RT_LIVE,
    RT_PUB,
)
from shared.nats.client import Bus
from shared.nats.errors import BusUnavailable, StreamMissing

log = structlog.get_logger(__name__)

STREAMS = ("RT", "PRES", "CTL", "EVENTS")
NOTIFY_CONSUMER = "notify"

_NANOSECONDS = 1_000_000_000
_EXISTS_DIFFERENTLY = 10058
_NO_SUCH_STREAM = 10059
_NO_CONSUMER = 10014
_FLOOR = "notify_floor"  # in the metadata of EVENTS: gone with the sequences that it is of
_NO_PEERS_YET = 10005  # of a cluster that is still finding itself
_NO_ROOM = (10002, 10047)  # of the account, of the server
_NO_ROOM_IN_WORDS = "insufficient storage"  # of a cluster, in which it may be one of many reasons
_LESS = 0.75

Config = dict[str, Any]


class BootstrapFailed(Exception):
    """The bus refuses a stream or consumer as configured; somebody has to look at it."""


class _NoRoom(Exception):
    """The bus cannot reserve that many bytes."""


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How much the streams keep.

    Each reserves its ``max_bytes``, so that none can take another's room. Where the bus has
    less, all of them get proportionally less.
    """

    replicas: int = 1
    store_bytes: int | None = None
    """What the bus has for all of them, as far as that is known."""
    min_bytes: int = 16 * 1024 * 1024
    """Of each of them; with less room than that nothing is made."""
    rt_max_age_seconds: float = 24 * 3600
    rt_max_bytes: int = 1024 * 1024 * 1024
    rt_dedupe_seconds: float = 300
    pres_max_bytes: int = 256 * 1024 * 1024
    """Some 300 bytes for each user of each channel on each gateway."""
    pres_dedupe_seconds: float = 10
    pres_marker_seconds: float = 60
    """How long the marker of an expired presence entry stays."""
    ctl_max_age_seconds: float = 24 * 3600
    """The longest life of a token: a revocation has to outlive it."""
    ctl_max_bytes: int = 256 * 1024 * 1024
    """Of about 400 bytes for each ended session; past it no more can be ended."""
    ctl_dedupe_seconds: float = 300
    events_max_age_seconds: float = 7 * 24 * 3600
    events_max_bytes: int = 4 * 1024 * 1024 * 1024
    """Past it events wait in the outboxes, until the oldest here have gone by their age."""
    events_dedupe_seconds: float = 600
    notify_ack_seconds: float = 10
    """After which an event that a gateway died over is another's."""
    notify_pin_seconds: float = 5
    """Without a word from the gateway that notifies, after which another takes over."""
    notify_max_unacked: int = 2000
    request_seconds: float = 2
    """For one answer of the bus."""
    retry_seconds: float = 0.2
    deadline_seconds: float = 30
    """For all of it: JetStream needs a moment after its server's start."""


@dataclass(frozen=True, slots=True)
class KeepingLimits:
    """How often is looked after the streams."""

    look_seconds: float = 2.0
    """Whether all of them are there."""
    note_seconds: float = 30.0
    """How far the consumer is. What it did since is told again if it is lost, and is known
    again by its id if that is well within the dedupe windows."""


async def bootstrap(bus: Bus, settings: StreamSettings | None = None) -> None:
    """Create the streams and the consumer, or bring them up to the settings.

    May run any number of times, also at once. An epoch is written when its stream is
    created and never changes afterwards: it names the life of the sequences.

    Raises:
        BusUnavailable: the bus did not do it in time.
        BootstrapFailed: it refuses, or has too little room.
    """
    settings = settings or StreamSettings()
    try:
        async with asyncio.timeout(settings.deadline_seconds):
            await _ensure_streams(bus, settings)
            await _ensure_consumer(bus, settings)
    except TimeoutError as error:
        raise BusUnavailable("the bus did not make the streams in time") from error


async def check_streams(bus: Bus) -> None:
    """See that every stream is there.

    Raises:
        StreamMissing: one is not.
        BusUnavailable: no answer.
    """
    for stream in STREAMS:
        await stream_state(bus, stream)


def _stream_configs(settings: StreamSettings) -> list[Config]:
    """``max_bytes`` is what each is meant to have, if there is as much."""
    return [
        {
            "name": "RT",
            "subjects": [f"{RT_PUB}>"],
            "republish": {"src": f"{RT_PUB}>", "dest": f"{RT_LIVE}>"},
            "max_age": _nanoseconds(settings.rt_max_age_seconds),
            "max_bytes": settings.rt_max_bytes,
            "discard": "old",
            "duplicate_window": _nanoseconds(settings.rt_dedupe_seconds),
            "allow_direct": True,
            "deny_delete": True,
            # No limits per subject: they make interior holes, and then the first sequence
            # no longer tells whether a client's offset is recoverable.
            **_common(settings),
        },
        {
            "name": "PRES",
            "subjects": [f"{PRES_PUB}>"],
            "republish": {"src": f"{PRES_PUB}>", "dest": f"{PRES_LIVE}>"},
            "max_msgs_per_subject": 1,
            "max_bytes": settings.pres_max_bytes,
            # A full stream would refuse leases, too, and with them whole gateways. Those are
            # renewed all the time, so the oldest entries are others.
            "discard": "old",
            "duplicate_window": _nanoseconds(settings.pres_dedupe_seconds),
            "allow_direct": True,
            "allow_msg_ttl": True,
            "allow_rollup_hdrs": True,
            "subject_delete_marker_ttl": _nanoseconds(settings.pres_marker_seconds),
            **_common(settings),
        },
        {
            "name": "CTL",
            "subjects": [f"{CTL_PUB}>"],
            "republish": {"src": f"{CTL_PUB}>", "dest": f"{CTL_LIVE}>"},
            "max_age": _nanoseconds(settings.ctl_max_age_seconds),
            "max_bytes": settings.ctl_max_bytes,
            "discard": "new",  # the oldest may be in force
            "duplicate_window": _nanoseconds(
                min(settings.ctl_dedupe_seconds, settings.ctl_max_age_seconds)
            ),
            "allow_direct": True,
            **_common(settings),
        },
        {
            "name": "EVENTS",
            "subjects": [f"{EVENTS}>"],
            "max_age": _nanoseconds(settings.events_max_age_seconds),
            "max_bytes": settings.events_max_bytes,
            "discard": "new",  # the oldest may be told nobody yet; the outboxes keep the rest
            "duplicate_window": _nanoseconds(settings.events_dedupe_seconds),
            **_common(settings),
        },
    ]


def _common(settings: StreamSettings) -> Config:
    # File storage even on one node: a memory stream is gone, not empty, after a restart.
    return {"retention": "limits", "storage": "file", "num_replicas": settings.replicas}


async def _ensure_streams(bus: Bus, settings: StreamSettings) -> None:
    """Make them with what they are meant to reserve, else with as much as there is room for."""
    configs = _stream_configs(settings)
    # Before any of them is asked for anew: what they have reserved counts.
    reserved = {
        config["name"]: found["config"]["max_bytes"]
        for config in configs
        if (found := await _find_stream(bus, config["name"], settings)) is not None
    }
    whole = sum(config["max_bytes"] for config in configs)
    least = sum(
        _room(config["max_bytes"], 0, reserved.get(config["name"], 0), settings)
        for config in configs
    )
    room_known = whole if settings.store_bytes is None else settings.store_bytes
    makes_any = any(reserved.get(config["name"], 0) <= 0 for config in configs)
    if makes_any and room_known < least:
        raise _too_little(least, whole)
    part = min(1.0, room_known / whole)
    while True:
        try:
            for config in configs:
                room = _room(config["max_bytes"], part, reserved.get(config["name"], 0), settings)
                await _ensure_stream(bus, {**config, "max_bytes": room}, settings)
        except _NoRoom as error:
            if part * whole <= settings.min_bytes:  # then all of them were as small as may be
                raise _too_little(least, whole) from error
            part *= _LESS
        else:
            if part < 1:
                log.warning("streams_smaller_than_meant", part=round(part, 3))
            return


def _room(meant: int, part: float, reserved: int, settings: StreamSettings) -> int:
    """How much to reserve: a stream keeps what it has, if it isn't meant to have less."""
    least = reserved if reserved > 0 else settings.min_bytes
    return max(round(meant * part), min(meant, least))


def _too_little(least: int, whole: int) -> BootstrapFailed:
    return BootstrapFailed(
        f"the bus has too little room: its streams take {_mebibytes(least)} at the least, and"
        f" {_mebibytes(whole)} where there is as much; nats-server's max_file_store, or three"
        " quarters of the free space of its disk, is less"
    )


async def _find_stream(bus: Bus, name: str, settings: StreamSettings) -> Config | None:
    found = await _ask(bus, f"STREAM.INFO.{name}", {}, settings)
    error = found.get("error")
    if error is None:
        return found
    if error["err_code"] == _NO_SUCH_STREAM:
        return None
    raise BootstrapFailed(f"stream {name}: {error['description']}")


async def _ensure_stream(bus: Bus, config: Config, settings: StreamSettings) -> None:
    name = config["name"]
    # Looked for first: one that is made anew reserves its room a second time before it turns
    # out to be there.
    while (found := await _find_stream(bus, name, settings)) is None:
        fresh = {**config, "metadata": {"epoch": secrets.token_hex(8)}}
        answer = await _ask(bus, f"STREAM.CREATE.{name}", fresh, settings)
        error = answer.get("error")
        if error is None:
            log.info("stream_created", stream=name, max_bytes=config["max_bytes"])
            return
        if error["err_code"] != _EXISTS_DIFFERENTLY:  # else somebody was faster
            raise _refusal(name, error)
    existing: Config = found["config"]
    metadata = dict(existing.get("metadata") or {})
    # From the creation, so that two who adopt a foreign stream at once agree.
    metadata.setdefault("epoch", hashlib.sha256(found["created"].encode()).hexdigest()[:16])
    wanted = {**existing, **config, "metadata": metadata}
    if config["discard"] == "new":  # what it holds it would have to drop for less
        wanted["max_bytes"] = max(config["max_bytes"], found["state"]["bytes"])
    if wanted == existing:
        return
    answer = await _ask(bus, f"STREAM.UPDATE.{name}", wanted, settings)
    if "error" in answer:
        raise _refusal(name, answer["error"])
    log.info("stream_updated", stream=name, max_bytes=wanted["max_bytes"])


def _refusal(name: str, error: Config) -> Exception:
    text = f"stream {name}: {error['description']}"
    return _NoRoom(text) if _is_about_room(error) else BootstrapFailed(text)


def _is_about_room(error: Config) -> bool:
    return error["err_code"] in _NO_ROOM or _NO_ROOM_IN_WORDS in error["description"]


async def keep_streams(
    bus: Bus, settings: StreamSettings | None = None, *, limits: KeepingLimits | None = None
) -> None:
    """Make anew what is deleted or lost, until cancelled. Whatever is away, it waits for it.

    From time to time it writes down with the stream up to where the consumer's work is done,
    so that one that is made anew begins there.
    """
    settings, limits = settings or StreamSettings(), limits or KeepingLimits()
    noted_at = time.monotonic()
    while True:
        await bus.until_connected()
        try:
            async with asyncio.timeout(settings.deadline_seconds):
                if await _lacks_something(bus, settings):
                    log.warning("streams_missing")
                    await bootstrap(bus, settings)
                if time.monotonic() - noted_at >= limits.note_seconds:
                    await _note_floor(bus, settings)
                    noted_at = time.monotonic()
        except (BusUnavailable, BootstrapFailed, TimeoutError) as failure:
            log.warning("streams_not_kept", reason=str(failure))
        except Exception:  # the top of a loop that has to go on
            log.exception("streams_not_kept")
        await asyncio.sleep(limits.look_seconds)


async def _lacks_something(bus: Bus, settings: StreamSettings) -> bool:
    try:
        await check_streams(bus)
    except StreamMissing:
        return True
    return await _consumer_info(bus, settings) is None


async def _consumer_info(bus: Bus, settings: StreamSettings) -> Config | None:
    answer = await _ask(bus, f"CONSUMER.INFO.EVENTS.{NOTIFY_CONSUMER}", {}, settings)
    error = answer.get("error")
    if error is None:
        return answer
    if error["err_code"] == _NO_CONSUMER:
        return None
    raise BootstrapFailed(f"consumer {NOTIFY_CONSUMER}: {error['description']}")


async def _note_floor(bus: Bus, settings: StreamSettings) -> None:
    consumer = await _consumer_info(bus, settings)
    stream = await _ask(bus, "STREAM.INFO.EVENTS", {}, settings)
    if consumer is None or "error" in stream:
        return
    config: Config = stream["config"]
    floor: int = consumer["ack_floor"]["stream_seq"]
    metadata = config.get("metadata") or {}
    if floor <= int(metadata.get(_FLOOR, "0")):  # one made anew has yet to get there
        return
    config["metadata"] = {**metadata, _FLOOR: str(floor)}
    answer = await _ask(bus, "STREAM.UPDATE.EVENTS", config, settings)
    if "error" in answer:
        raise BootstrapFailed(f"stream EVENTS: {answer['error']['description']}")


async def _ensure_consumer(bus: Bus, settings: StreamSettings) -> None:
    found = await _consumer_info(bus, settings)
    # Where it begins is settled when it is made, and can't be changed afterwards.
    beginning = await _beginning(bus, settings) if found is None else found["config"]
    config = {
        "durable_name": NOTIFY_CONSUMER,
        "deliver_policy": beginning["deliver_policy"],
        **({"opt_start_seq": beginning["opt_start_seq"]} if "opt_start_seq" in beginning else {}),
        "ack_policy": "explicit",
        "ack_wait": _nanoseconds(settings.notify_ack_seconds),
        "max_ack_pending": settings.notify_max_unacked,
        "max_deliver": -1,
        "replay_policy": "instant",
        # One at a time works, the others stand by: two at once could not keep an order.
        "priority_policy": "pinned_client",
        "priority_groups": [NOTIFY_CONSUMER],
        "priority_timeout": _nanoseconds(settings.notify_pin_seconds),
    }
    if found is not None and config.items() <= found["config"].items():
        return
    request = {"stream_name": "EVENTS", "config": config}
    subject = f"CONSUMER.DURABLE.CREATE.EVENTS.{NOTIFY_CONSUMER}"
    answer = await _ask(bus, subject, request, settings)
    if "error" in answer:
        raise BootstrapFailed(f"consumer {NOTIFY_CONSUMER}: {answer['error']['description']}")
    log.info("consumer_created" if found is None else "consumer_updated", consumer=NOTIFY_CONSUMER)


async def _beginning(bus: Bus, settings: StreamSettings) -> Config:
    """Behind what was known to be done when one of the name was there last."""
    stream = await _ask(bus, "STREAM.INFO.EVENTS", {}, settings)
    if "error" in stream:
        raise BootstrapFailed(f"stream EVENTS: {stream['error']['description']}")
    floor = int((stream["config"].get("metadata") or {}).get(_FLOOR, "0"))
    if floor == 0:
        return {"deliver_policy": "all"}
    return {"deliver_policy": "by_start_sequence", "opt_start_seq": floor + 1}


async def _ask(bus: Bus, call: str, request: Config, settings: StreamSettings) -> Config:
    """Ask until there is an answer that is more than "not now"; the caller has the deadline."""
    payload = json.dumps(request).encode() if request else b""
    while True:
        await bus.until_connected()
        try:
            answer: Config = json.loads(
                await bus.request(
                    f"$JS.API.{call}", payload, timeout_seconds=settings.request_seconds
                )
            )
        except BusUnavailable as unavailable:
            reason = str(unavailable)
        else:
            error = answer.get("error")
            if error is None or _is_about_room(error):
                return answer
            if error["code"] < 500 and error["err_code"] != _NO_PEERS_YET:
                return answer
            reason = error["description"]
        log.info("stream_retry", call=call, reason=reason)
        await asyncio.sleep(settings.retry_seconds)


def _mebibytes(count: int) -> str:
    return f"{count / 1024 / 1024:.0f} MiB"


def _nanoseconds(seconds: float) -> int:
    return round(seconds * _NANOSECONDS)


__all__ = [
    "NOTIFY_CONSUMER", "STREAMS", "BootstrapFailed", "KeepingLimits", "StreamMissing",
    "StreamSettings", "bootstrap", "check_streams", "keep_streams",
]  # fmt: skip
