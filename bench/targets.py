"""How the load talks to each server."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from urllib.parse import urlencode

from bench.load import Load
from bench.profiling import Profiler
from bench.tokens import Issuer, hs256_token
from hubbub_client.contracts.channels import personal_channel, room_channel
from hubbub_client.contracts.ids import UserId
from hubbub_client.contracts.subjects import publication_subject

LINE_BREAK = "\x1f"
"""Within one line of the load's files."""
STAMP = "at=" + 19 * "0"
"""The load overwrites it with the time of sending; see native/load.h."""
API_KEY = "an API key of the benchmarks"


@dataclass(frozen=True, slots=True)
class Target:
    """A running server. Publications come from the first client and go to all."""

    port: int
    pid: int
    has_personal_channels: bool = False
    """Whether a publication can go to one user alone."""
    profiler: Profiler | None = None

    def path(self, user_id: int, *, room: str = "lobby") -> str:
        return f"/ws/chat?room={room}&token={hs256_token(user_id)}"

    async def prepare(self, load: Load) -> None:
        """Tell the load how to publish to this server."""

    def publication(self, *, text_bytes: int, user_id: int | None = None) -> tuple[str, str]:
        """Subject and payload of a publication to the lobby, or to one user."""
        command: dict[str, object] = {"type": "message", "body": _text(text_bytes)}
        return "", json.dumps(command if user_id is None else {**command, "to": user_id})

    def message(self, *, text_bytes: int) -> str:
        """A client's message that is answered; a format string for the number of the message."""
        return json.dumps({"type": "message", "id": "%ld", "body": _text(text_bytes)})


@dataclass(frozen=True, slots=True)
class Hubbub(Target):
    """The gateway. Publications come over the bus, as a service would send them."""

    has_personal_channels: bool = True
    nats_port: int = field(kw_only=True)
    issuer: Issuer = field(kw_only=True)
    another: Callable[[], AbstractAsyncContextManager[Target]] = field(kw_only=True)
    """Starts another gateway at the same bus, and kills it at the end."""

    def eddsa_path(self, user_id: int, *, room: str = "lobby") -> str:
        return f"/ws/chat?room={room}&token={self.issuer.token(user_id)}"

    def sdk_line(
        self,
        user_id: int,
        channels: Sequence[str],
        transport: str = "websocket",
        *,
        position: Mapping[str, object] | None = None,
    ) -> str:
        """A client of an SDK, as the load opens it: connected, and subscribed to the channels.

        Args:
            position: What each subscription says of where it was.
        """
        connect = {"id": 1, "connect": {"token": hs256_token(user_id)}}
        commands = [
            json.dumps(connect),
            *(
                json.dumps({"id": number, "subscribe": {"channel": channel, **(position or {})}})
                for number, channel in enumerate(channels, start=2)
            ),
        ]
        path = f"/connection/{transport}"
        if transport == "sse":
            return f"GET {path}?{urlencode({'cf_connect': commands[0]})}"
        if transport == "http_stream":
            return f"POST {path}\t{commands[0]}"
        return f"{path}\t{LINE_BREAK.join(commands)}"

    async def prepare(self, load: Load) -> None:
        await load.bus(self.nats_port)

    def publication(self, *, text_bytes: int, user_id: int | None = None) -> tuple[str, str]:
        channel = (
            room_channel("lobby") if user_id is None else personal_channel(UserId(str(user_id)))
        )
        return publication_subject(channel), json.dumps({"data": {"text": _text(text_bytes)}})


def _text(size: int) -> str:
    return STAMP.ljust(size, "x")
