"""Making the streams and their consumer, and making them again when the bus has lost them."""

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from shared.jetstream.api import ApiError, Config, JetStreamApi, StreamInfo
from shared.jetstream.stream_configs import (
    NOTIFY_CONSUMER,
    STREAMS,
    StreamSettings,
    consumer_config,
    stream_configs,
)
from shared.nats.client import Bus
from shared.nats.errors import BusUnavailable, StreamMissing

log = structlog.get_logger(__name__)

_EXISTS_DIFFERENTLY = 10058
_FLOOR = "notify_floor"  # in the metadata of EVENTS: gone with the sequences that it is of
_NO_PEERS_YET = 10005  # of a cluster that is still finding itself
_NO_ROOM = (10002, 10047)  # of the account, of the server
_NO_ROOM_IN_WORDS = "insufficient storage"  # of a cluster, in which it may be one of many reasons
_LESS = 0.75


class BootstrapFailed(Exception):
    """The bus refuses a stream or consumer as configured; somebody has to look at it."""


class _NoRoom(Exception):
    """The bus cannot reserve that many bytes."""


@dataclass(frozen=True, slots=True)
class KeepingLimits:
    """How often the streams are looked at."""

    look_seconds: float = 2.0
    """To see whether all of them are there."""
    settle_seconds: float = 0.5
    """From a loss until they are made again. nats-server still removes the files of a stream after
    it has said that the stream is deleted, and would take those of a new one along."""
    note_seconds: float = 30.0
    """To note how far the consumer is. If the streams are lost, what it did since is sent again,
    and known by its id if this is well within the dedupe windows."""


async def bootstrap(
    bus: Bus, settings: StreamSettings | None = None, *, restored: bool = False
) -> None:
    """Create the streams and the consumer, or bring them up to the settings.

    May run any number of times, also at once. An epoch is written when its stream is
    created and does not change afterwards: it names the life of the sequences.

    Args:
        restored: What is there was put back from a backup, which nobody can see: its sequences
            are given a second time. So each stream begins a new life, under another epoch.

    Raises:
        BusUnavailable: the bus did not do it in time.
        BootstrapFailed: it refuses, or has too little room.
    """
    settings = settings or StreamSettings()
    api = _PersistentApi(bus, settings)
    try:
        async with _in_time(bus, settings):
            if restored:
                for name in STREAMS:
                    await _begin_new_life(api, name)
            await _ensure_streams(api, settings)
            await _ensure_consumer(api, settings)
    except (ApiError, StreamMissing) as refusal:
        raise BootstrapFailed(str(refusal)) from refusal


@asynccontextmanager
async def _in_time(bus: Bus, settings: StreamSettings) -> AsyncGenerator[None]:
    """What the user may not do is tried until then, too: a server may be about to be told anew."""
    try:
        async with asyncio.timeout(settings.deadline_seconds):
            yield
    except TimeoutError as error:
        reason = f": {bus.not_allowed}; see accounts.conf" if bus.not_allowed else ""
        raise BusUnavailable(f"the bus did not make the streams in time{reason}") from error


async def check_streams(bus: Bus) -> None:
    """See that every stream is there.

    Raises:
        StreamMissing: one is not.
        BusUnavailable: no answer.
    """
    api = JetStreamApi(bus)
    for stream in STREAMS:
        await api.stream_info(stream)


class _PersistentApi(JetStreamApi):
    """Asks until there is an answer that is more than "not now"; the caller has the deadline."""

    def __init__(self, bus: Bus, settings: StreamSettings) -> None:
        super().__init__(bus, timeout_seconds=settings.request_seconds)
        self._retry_seconds = settings.retry_seconds

    async def request(
        self, call: str, *tokens: str, request: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        while True:
            await self._bus.until_connected()
            try:
                return await super().request(call, *tokens, request=request)
            except StreamMissing:
                raise
            except ApiError as refusal:
                if _is_final(refusal):
                    raise
                reason = refusal.description
            except BusUnavailable as unavailable:
                reason = str(unavailable)
            log.info("stream_retry", call=".".join((call, *tokens)), reason=reason)
            await asyncio.sleep(self._retry_seconds)


def _is_final(refusal: ApiError) -> bool:
    if _is_about_room(refusal):
        return True
    return refusal.status < 500 and refusal.err_code != _NO_PEERS_YET


async def _ensure_streams(api: JetStreamApi, settings: StreamSettings) -> None:
    """Make them with what they are meant to reserve, else with as much as there is room for."""
    configs = stream_configs(settings)
    # Before any of them is asked for anew: what they have reserved counts.
    reserved = {
        config["name"]: found.config["max_bytes"]
        for config in configs
        if (found := await _find_stream(api, config["name"])) is not None
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
                await _ensure_stream(api, {**config, "max_bytes": room})
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


async def _find_stream(api: JetStreamApi, name: str) -> StreamInfo | None:
    try:
        return await api.stream_info(name)
    except StreamMissing:
        return None


async def _begin_new_life(api: JetStreamApi, name: str) -> None:
    found = await _find_stream(api, name)
    if found is None:
        return  # it is about to be made, with an epoch of its own
    metadata = {**found.metadata, "epoch": secrets.token_hex(8)}
    await api.update_stream({**found.config, "metadata": metadata})
    log.info("stream_restored", stream=name, epoch=metadata["epoch"])


async def _ensure_stream(api: JetStreamApi, config: Config) -> None:
    name = config["name"]
    # Looked for first: one that is made anew reserves its room a second time before it turns
    # out to be there.
    while (found := await _find_stream(api, name)) is None:
        fresh = {**config, "metadata": {"epoch": secrets.token_hex(8)}}
        try:
            await api.create_stream(fresh)
        except ApiError as refusal:
            if refusal.err_code != _EXISTS_DIFFERENTLY:  # else somebody was faster
                raise _reason_of(refusal) from refusal
        else:
            log.info("stream_created", stream=name, max_bytes=config["max_bytes"])
            return
    metadata = dict(found.metadata)
    # From the creation, so that two who adopt a foreign stream at once agree.
    metadata.setdefault("epoch", hashlib.sha256(found.created.encode()).hexdigest()[:16])
    wanted = {**found.config, **config, "metadata": metadata}
    if config["discard"] == "new":  # what it holds it would have to drop for less
        wanted["max_bytes"] = max(config["max_bytes"], found.stored_bytes)
    if wanted == found.config:
        return
    try:
        await api.update_stream(wanted)
    except ApiError as refusal:
        raise _reason_of(refusal) from refusal
    log.info("stream_updated", stream=name, max_bytes=wanted["max_bytes"])


def _reason_of(refusal: ApiError) -> Exception:
    return _NoRoom(str(refusal)) if _is_about_room(refusal) else refusal


def _is_about_room(refusal: ApiError) -> bool:
    return refusal.err_code in _NO_ROOM or _NO_ROOM_IN_WORDS in refusal.description


async def keep_streams(
    bus: Bus, settings: StreamSettings | None = None, *, limits: KeepingLimits | None = None
) -> None:
    """Make anew what is deleted or lost, until cancelled. Whatever is away, it waits for it.

    From time to time it writes down with the stream up to where the consumer's work is done,
    so that one that is made anew begins there.
    """
    settings, limits = settings or StreamSettings(), limits or KeepingLimits()
    api = _PersistentApi(bus, settings)
    noted_at = time.monotonic()
    while True:
        await bus.until_connected()
        try:
            async with _in_time(bus, settings):
                if await _lacks_something(bus, api):
                    log.warning("streams_missing")
                    await asyncio.sleep(limits.settle_seconds)
                    await bootstrap(bus, settings)
                if time.monotonic() - noted_at >= limits.note_seconds:
                    await _note_floor(api)
                    noted_at = time.monotonic()
        except (BusUnavailable, BootstrapFailed) as failure:
            log.warning("streams_not_kept", reason=str(failure))
        except Exception:  # the loop has to go on
            log.exception("streams_not_kept")
        await asyncio.sleep(limits.look_seconds)


async def _lacks_something(bus: Bus, api: JetStreamApi) -> bool:
    try:
        await check_streams(bus)
        return await api.consumer_info("EVENTS", NOTIFY_CONSUMER) is None
    except StreamMissing:
        return True


async def _note_floor(api: JetStreamApi) -> None:
    consumer = await api.consumer_info("EVENTS", NOTIFY_CONSUMER)
    stream = await _find_stream(api, "EVENTS")
    if consumer is None or stream is None:
        return
    if consumer.ack_floor <= int(stream.metadata.get(_FLOOR, "0")):
        return  # one made anew has yet to get there
    metadata = {**stream.metadata, _FLOOR: str(consumer.ack_floor)}
    await api.update_stream({**stream.config, "metadata": metadata})


async def _ensure_consumer(api: JetStreamApi, settings: StreamSettings) -> None:
    found = await api.consumer_info("EVENTS", NOTIFY_CONSUMER)
    # Where it begins is settled when it is made, and can't be changed afterwards.
    beginning = await _beginning(api) if found is None else found.config
    config = {
        **consumer_config(settings),
        "deliver_policy": beginning["deliver_policy"],
        **({"opt_start_seq": beginning["opt_start_seq"]} if "opt_start_seq" in beginning else {}),
    }
    if found is not None and config.items() <= found.config.items():
        return
    await api.create_consumer("EVENTS", config)
    log.info("consumer_created" if found is None else "consumer_updated", consumer=NOTIFY_CONSUMER)


async def _beginning(api: JetStreamApi) -> Config:
    """Behind what was known to be done when one of the name was there last."""
    stream = await api.stream_info("EVENTS")
    floor = int(stream.metadata.get(_FLOOR, "0"))
    if floor == 0:
        return {"deliver_policy": "all"}
    return {"deliver_policy": "by_start_sequence", "opt_start_seq": floor + 1}


def _mebibytes(count: int) -> str:
    return f"{count / 1024 / 1024:.0f} MiB"
