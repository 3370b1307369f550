"""Creating the streams and their consumer, and creating them again when the bus has lost them."""

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from hubbub_client.jetstream.api import ApiError, Config, JetStreamApi, StreamInfo
from hubbub_client.jetstream.consumers import Ensured, ensure_consumer
from hubbub_client.nats.client import Bus
from hubbub_client.nats.errors import BusUnavailable, StreamMissing
from shared.jetstream.stream_configs import (
    NOTIFY_CONSUMER,
    STREAMS,
    StreamSettings,
    consumer_config,
    stream_configs,
)

log = structlog.get_logger(__name__)

_EXISTS_DIFFERENTLY = 10058
_FLOOR = "notify_floor"  # in the metadata of EVENTS, so that both are lost together
_NO_PEERS_YET = 10005  # the cluster is still forming
_NO_ROOM = (10002, 10047)  # of the account, of the server
_NO_ROOM_TEXT = "insufficient storage"  # a cluster says it among other reasons
_SHRINK = 0.75


class BootstrapFailed(Exception):
    """The bus refuses a stream or the consumer as configured: the operator has to act."""


class _NoRoom(Exception):
    """The bus cannot reserve that many bytes."""


@dataclass(frozen=True, slots=True)
class KeepingLimits:
    """How often the streams are checked."""

    look_seconds: float = 2.0
    """Between two checks that all of them exist."""
    settle_seconds: float = 0.5
    """From a loss until they are made again. nats-server still removes the files of a stream after
    it has said that the stream is deleted, and would take those of a new one along."""
    note_seconds: float = 30.0
    """Between two notes of how far the consumer is. If the streams are lost, what it did since is
    sent again, and dropped as a duplicate, since this is well within the dedupe windows."""


async def bootstrap(
    bus: Bus, settings: StreamSettings | None = None, *, restored: bool = False
) -> None:
    """Create the streams and the consumer, or update them to the settings.

    May run any number of times, also at once. A stream gets its epoch when it is created, and keeps
    it: it says which sequences are comparable.

    Args:
        restored: The streams were restored from a backup, which can't be seen in them. Their
            sequences will be given a second time, so each stream gets another epoch.

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
                    await _change_epoch(api, name)
            await _ensure_streams(api, settings)
            await _ensure_consumer(api, settings)
    except (ApiError, StreamMissing) as refusal:
        raise BootstrapFailed(str(refusal)) from refusal


@asynccontextmanager
async def _in_time(bus: Bus, settings: StreamSettings) -> AsyncGenerator[None]:
    """The deadline. Missing permissions are retried until then too: a server may be reloading."""
    try:
        async with asyncio.timeout(settings.deadline_seconds):
            yield
    except TimeoutError as error:
        reason = f": {bus.not_allowed}; see accounts.conf" if bus.not_allowed else ""
        raise BusUnavailable(f"the bus did not create the streams in time{reason}") from error


async def check_streams(bus: Bus) -> None:
    """See that every stream exists.

    Raises:
        StreamMissing: one is not.
        BusUnavailable: no answer.
    """
    api = JetStreamApi(bus)
    for stream in STREAMS:
        await api.stream_info(stream)


class _PersistentApi(JetStreamApi):
    """Retries until there is a final answer; the caller sets the deadline."""

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
    """Create or update them; if there is too little room, all of them proportionally smaller."""
    configs = stream_configs(settings)
    # Before any of them changes: what they have reserved counts as room.
    found = {
        config["name"]: stream
        for config in configs
        if (stream := await _find_stream(api, config["name"])) is not None
    }
    reserved = {name: stream.config["max_bytes"] for name, stream in found.items()}
    whole = sum(config["max_bytes"] for config in configs)
    least = sum(
        _room(config["max_bytes"], 0, reserved.get(config["name"], 0), settings)
        for config in configs
    )
    room_known = whole if settings.store_bytes is None else settings.store_bytes
    lacks_any = any(reserved.get(config["name"], 0) <= 0 for config in configs)
    if lacks_any and room_known < least:
        raise _too_little(least, whole)
    part = min(1.0, room_known / whole)
    while True:
        try:
            for config in configs:
                name = config["name"]
                room = _room(config["max_bytes"], part, reserved.get(name, 0), settings)
                sized = {**config, "max_bytes": room}
                # To change one takes another look, or it would undo what others did meanwhile.
                if name not in found or _wanted(sized, found[name]) != found[name].config:
                    await _ensure_stream(api, sized)
        except _NoRoom as error:
            found.clear()  # some have been changed
            if part * whole <= settings.min_bytes:  # each was as small as allowed
                raise _too_little(least, whole) from error
            part *= _SHRINK
        else:
            if part < 1:
                log.warning("streams_smaller_than_meant", part=round(part, 3))
            return


def _room(meant: int, part: float, reserved: int, settings: StreamSettings) -> int:
    """How much to reserve: a stream keeps what it has, unless the settings say less."""
    least = reserved if reserved > 0 else settings.min_bytes
    return max(round(meant * part), min(meant, least))


def _too_little(least: int, whole: int) -> BootstrapFailed:
    return BootstrapFailed(
        f"the bus has too little room: its streams need at least {_mebibytes(least)}, and"
        f" {_mebibytes(whole)} for full size; nats-server's max_file_store, or three quarters of"
        " the free space of its disk, is less"
    )


async def _find_stream(api: JetStreamApi, name: str) -> StreamInfo | None:
    try:
        return await api.stream_info(name)
    except StreamMissing:
        return None


async def _change_epoch(api: JetStreamApi, name: str) -> None:
    found = await _find_stream(api, name)
    if found is None:
        return  # it is about to be created, with a new epoch
    metadata = {**found.metadata, "epoch": secrets.token_hex(8)}
    await api.update_stream({**found.config, "metadata": metadata})
    log.info("stream_restored", stream=name, epoch=metadata["epoch"])


async def _ensure_stream(api: JetStreamApi, config: Config) -> None:
    name = config["name"]
    # Look for it first: creating an existing stream reserves its room a second time for a moment.
    while (found := await _find_stream(api, name)) is None:
        fresh = {**config, "metadata": {"epoch": secrets.token_hex(8)}}
        try:
            await api.create_stream(fresh)
        except ApiError as refusal:
            if refusal.err_code != _EXISTS_DIFFERENTLY:  # if so, another process was faster
                raise _reason_of(refusal) from refusal
        else:
            log.info("stream_created", stream=name, max_bytes=config["max_bytes"])
            return
    wanted = _wanted(config, found)
    if wanted == found.config:
        return
    try:
        await api.update_stream(wanted)
    except ApiError as refusal:
        raise _reason_of(refusal) from refusal
    log.info("stream_updated", stream=name, max_bytes=wanted["max_bytes"])


def _wanted(config: Config, found: StreamInfo) -> Config:
    """What the configuration of a stream that exists is to become."""
    metadata = dict(found.metadata)
    # A stream that others made: derived from its creation, so that two processes agree.
    metadata.setdefault("epoch", hashlib.sha256(found.created.encode()).hexdigest()[:16])
    wanted = {**found.config, **config, "metadata": metadata}
    if config["discard"] == "new":  # with less it would have to drop messages
        wanted["max_bytes"] = max(config["max_bytes"], found.stored_bytes)
    return wanted


def _reason_of(refusal: ApiError) -> Exception:
    return _NoRoom(str(refusal)) if _is_about_room(refusal) else refusal


def _is_about_room(refusal: ApiError) -> bool:
    return refusal.err_code in _NO_ROOM or _NO_ROOM_TEXT in refusal.description


async def keep_streams(
    bus: Bus, settings: StreamSettings | None = None, *, limits: KeepingLimits | None = None
) -> None:
    """Create again what is deleted or lost, until cancelled, waiting for a bus that is away.

    From time to time it notes in the stream's metadata how far the consumer is, so that a new
    consumer begins there.
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
        except Exception:  # the loop has to continue
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
        return  # a new consumer has not got there yet
    metadata = {**stream.metadata, _FLOOR: str(consumer.ack_floor)}
    await api.update_stream({**stream.config, "metadata": metadata})


async def _ensure_consumer(api: JetStreamApi, settings: StreamSettings) -> None:
    done = await ensure_consumer(
        api,
        "EVENTS",
        consumer_config(settings),
        found=await api.consumer_info("EVENTS", NOTIFY_CONSUMER),
        beginning=partial(_beginning, api),
    )
    if done is Ensured.CREATED:
        log.info("consumer_created", consumer=NOTIFY_CONSUMER)
    elif done is Ensured.UPDATED:
        log.info("consumer_updated", consumer=NOTIFY_CONSUMER)


async def _beginning(api: JetStreamApi) -> Config:
    """After what is noted as done by an earlier consumer of this name."""
    stream = await api.stream_info("EVENTS")
    floor = int(stream.metadata.get(_FLOOR, "0"))
    if floor == 0:
        return {"deliver_policy": "all"}
    return {"deliver_policy": "by_start_sequence", "opt_start_seq": floor + 1}


def _mebibytes(count: int) -> str:
    return f"{count / 1024 / 1024:.0f} MiB"
