"""A gateway for tests of an application, which keeps what it is told and sends it to nobody."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx2

from hubbub_client.client import Hubbub
from hubbub_client.exchange import MAX_REQUEST_BYTES, Answer
from hubbub_client.published import E, Published, events_in
from hubbub_client.sync_client import SyncHubbub

EPOCH = "recorded"

_URL = "http://recorder"
_CHANNEL = re.compile(r"[!-~]{1,255}")


@dataclass(frozen=True, slots=True)
class Recorded:
    """One publication."""

    channel: str
    data: Any
    offset: int | None
    """None of one that is only for those who are there."""
    idempotency_key: str | None = None
    tags: dict[str, str] | None = None


class Recorder(Published):
    """Takes any key and any well-formed channel; nobody is ever present."""

    def __init__(self) -> None:
        self.publications: list[Recorded] = []
        """In their order."""
        self.orders: list[tuple[str, Answer]] = []
        """What was to be done to whose connections: `subscribe`, `unsubscribe` or `disconnect`."""
        self._methods: dict[str, Callable[[Answer], Answer]] = {
            "publish": lambda body: self._publish(body["channel"], body),
            "broadcast": self._broadcast,
            "presence": lambda _body: {"presence": {}},
            "presence_stats": lambda _body: {"num_clients": 0, "num_users": 0},
            "history": self._history,
        }
        for order in ("subscribe", "unsubscribe", "disconnect"):
            self._methods[order] = self._keeping(order)

    @property
    def hubbub(self) -> Hubbub:
        """A client to give to the application, which may close it."""
        return Hubbub(_URL, "any", transport=httpx2.MockTransport(self._answer))

    @property
    def sync_hubbub(self) -> SyncHubbub:
        """The same for an application that does not await."""
        return SyncHubbub(_URL, "any", transport=httpx2.MockTransport(self._answer))

    def data(self, channel: str) -> list[Any]:
        return [each.data for each in self.publications if each.channel == channel]

    def events(self, model: type[E], *, channel: str | None = None) -> list[E]:
        """The events of that class, in one channel or in any."""
        return events_in(
            [each.data for each in self.publications if channel in (None, each.channel)], model
        )

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        body, method = request.content, request.url.path.removeprefix("/api/")
        if len(body) > MAX_REQUEST_BYTES:
            return httpx2.Response(413)
        if method == "batch":
            replies = [self._reply(*command.popitem()) for command in json.loads(body)["commands"]]
            return httpx2.Response(200, json={"replies": replies})
        return httpx2.Response(200, json=self._call(method, json.loads(body)))

    def _reply(self, method: str, body: Answer) -> Answer:
        answer = self._call(method, body)
        return {method: answer["result"]} if "result" in answer else answer

    def _call(self, method: str, body: Answer) -> Answer:
        try:
            return {"result": self._methods[method](body)}
        except _Refused as refused:
            return {"error": {"code": refused.code, "message": str(refused)}}

    def _publish(self, channel: str, body: Answer) -> Answer:
        if not _CHANNEL.fullmatch(channel):
            raise _Refused(107, "bad request: channel")
        data, tags, key = body["data"], body.get("tags"), body.get("idempotency_key")
        if body.get("skip_history"):
            self.publications.append(Recorded(channel, data, None, None, tags))
            return {}
        for each in self.publications:
            if key and (each.channel, each.idempotency_key) == (channel, key):
                if _as_json(each.data) != _as_json(data):
                    raise _Refused(113, "conflict")
                return {"offset": each.offset, "epoch": EPOCH}
        recorded = Recorded(channel, data, self._top + 1, key, tags)
        self.publications.append(recorded)
        return {"offset": recorded.offset, "epoch": EPOCH}

    def _broadcast(self, body: Answer) -> Answer:
        commands = [body | {"channel": channel} for channel in body["channels"]]
        return {"responses": [self._call("publish", command) for command in commands]}

    def _history(self, body: Answer) -> Answer:
        channel, limit, reverse = body["channel"], body["limit"], body["reverse"]
        since = body.get("since")
        if since is not None and (since["epoch"] != EPOCH or since["offset"] > self._top):
            raise _Refused(112, "unrecoverable position")
        stored = [
            each
            for each in self.publications
            if each.channel == channel
            and each.offset is not None
            and (since is None or _is_beyond(each.offset, since["offset"], reverse=reverse))
        ]
        if reverse:
            stored.reverse()
        page = stored if limit == -1 else stored[:limit]
        publications = [
            {"offset": each.offset, "data": each.data, **({"tags": each.tags} if each.tags else {})}
            for each in page
        ]
        return {"publications": publications, "offset": self._top, "epoch": EPOCH}

    def _keeping(self, order: str) -> Callable[[Answer], Answer]:
        def keep(body: Answer) -> Answer:
            self.orders.append((order, body))
            return {}

        return keep

    @property
    def _top(self) -> int:
        """Where the stream stands."""
        return max((each.offset or 0 for each in self.publications), default=0)


def _as_json(data: Any) -> str:
    """Python's == takes True and 1 for the same."""
    return json.dumps(data, sort_keys=True)


class _Refused(Exception):
    """As a gateway would."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def _is_beyond(offset: int, since: int, *, reverse: bool) -> bool:
    return offset < since if reverse else offset > since
