"""The commands that ask all gateways what is going on there."""

import itertools
import json
import os
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from fnmatch import translate
from typing import Any

from gateway.channels.registry import ConnectionManager
from gateway.cluster import Cluster, Question
from gateway.server_api.errors import Answer, ApiError, ApiErrorCode
from gateway.server_api.methods import Run
from gateway.server_api.requests import ChannelsRequest, InfoRequest
from gateway.server_api.results import ChannelsResult, InfoResult, NodeInfo
from hubbub_client.contracts.errors import Unavailable
from hubbub_client.contracts.ids import ChannelName
from shared.runtime.version import running_version

MAX_CHANNELS = 5000
"""Of one gateway, in one answer."""
_ENVELOPE_BYTES = 1024
"""Of an answer, beside the channels."""
_MAX_PATTERN_CHARS = 255
_MAX_ALTERNATIVES = 100
_BRACES = re.compile(r"\{([^{}]*)\}")


class _Matching(Question):
    pattern: str


class _Nothing(Question):
    pass


class Surveying:
    """Adds up what the gateways answer, and answers what is asked of this one."""

    def __init__(self, cluster: Cluster, manager: ConnectionManager) -> None:
        self._cluster = cluster
        self._manager = manager
        self._started_at = time.monotonic()
        self._version = running_version()
        self._name = f"{socket.gethostname()}-{os.getpid()}"
        cluster.handle("channels", _Matching, self._own_channels)
        cluster.handle("info", _Nothing, self._own_info)
        self.methods: Mapping[str, Run] = {
            "channels": self.channels,
            "info": self.info,
        }

    async def channels(self, request: ChannelsRequest) -> ChannelsResult:
        """The channels that somebody listens to, anywhere.

        Raises:
            ApiError: they are too many, or it is no pattern.
            Unavailable: not all gateways have answered.
        """
        matcher(request.pattern)
        counts: Counter[str] = Counter()
        for of_one in await self._answers("channels", {"pattern": request.pattern}):
            if of_one is None:
                raise ApiError(
                    ApiErrorCode.NOT_AVAILABLE,
                    f"a gateway has more than {MAX_CHANNELS} channels, or more than can be"
                    " answered: narrow the pattern",
                )
            counts.update(of_one)
        return {"channels": {name: {"num_clients": count} for name, count in counts.items()}}

    async def info(self, _request: InfoRequest) -> InfoResult:
        """
        Raises:
            Unavailable: not all gateways have answered.
        """
        return {"nodes": list(await self._answers("info", {}))}

    async def _answers(self, kind: str, asked: Answer) -> Iterable[Any]:
        """
        Raises:
            Unavailable: not all gateways have answered. Without one of them it is not the answer.
        """
        answers, is_complete = await self._cluster.survey(kind, asked)
        if not is_complete:
            raise Unavailable("not all gateways have answered")
        return answers.values()

    def _own_channels(self, asked: _Matching) -> dict[ChannelName, int] | None:
        """How many listen to each; None if the channels are too many for an answer."""
        matches = matcher(asked.pattern)
        names = filter(matches, self._manager.channels())
        found = list(itertools.islice(names, MAX_CHANNELS + 1))
        if len(found) > MAX_CHANNELS:
            return None
        counts = {name: sum(1 for _ in self._manager.subscriptions_to(name)) for name in found}
        room = self._cluster.limits.max_answer_bytes - _ENVELOPE_BYTES
        return counts if len(json.dumps(counts)) <= room else None

    def _own_info(self, _asked: _Nothing) -> NodeInfo:
        manager = self._manager
        return {
            "uid": self._cluster.node,
            "name": self._name,
            "version": self._version,
            "num_clients": manager.connection_count(),
            "num_users": manager.active_user_count(),
            "num_channels": len(manager.channels()),
            "num_subs": manager.subscription_count(),
            "uptime": int(time.monotonic() - self._started_at),
        }


def matcher(pattern: str) -> Callable[[str], object]:
    """What tells whether a name matches: `*`, `?`, `[a-z]`, `[!a-z]` and `{one,other}`.

    Raises:
        ApiError: it is too much of a pattern.
    """
    if not pattern:
        return lambda _name: True
    pieces = _BRACES.split(pattern)  # every second one stood in braces
    choices = [
        piece.split(",") if number % 2 else [piece] for number, piece in enumerate(pieces)
    ]  # fmt: skip
    count = 1
    for choice in choices:
        count *= len(choice)
    if len(pattern) > _MAX_PATTERN_CHARS or count > _MAX_ALTERNATIVES:
        raise ApiError(ApiErrorCode.BAD_REQUEST, "pattern: too long, or with too many alternatives")
    patterns = map("".join, itertools.product(*choices))
    return re.compile("|".join(map(translate, patterns))).match
