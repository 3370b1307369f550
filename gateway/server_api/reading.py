"""The commands that read: who is in a channel, and what was published there."""

from collections.abc import Mapping

import pydantic_core

from gateway.channels.namespaces import Namespaces
from gateway.presence.presence import Presence
from gateway.protocols.centrifuge.codec import client_info
from gateway.protocols.centrifuge.formats import whole_list
from gateway.protocols.centrifuge.methods import page_json
from gateway.server_api.errors import ApiError, ApiErrorCode
from gateway.server_api.methods import Run
from gateway.server_api.requests import (
    ChannelRequest,
    HistoryRequest,
    channel_named,
    options_of,
)
from gateway.server_api.results import (
    Done,
    HistoryResult,
    PresenceResult,
    PresenceStatsResult,
)
from gateway.streams.pages import Pages
from hubbub_client.contracts.errors import Unavailable
from hubbub_client.contracts.ids import ChannelName


class Reading:
    """Answers from what this gateway knows of all gateways, and from the stream."""

    def __init__(self, *, namespaces: Namespaces, presence: Presence, pages: Pages) -> None:
        self._namespaces = namespaces
        self._presence = presence
        self._pages = pages
        self.methods: Mapping[str, Run] = {
            "presence": self.presence,
            "presence_stats": self.presence_stats,
            "history": self.history,
            "history_remove": self.history_remove,
        }

    async def presence(self, request: ChannelRequest) -> PresenceResult:
        channel = self._with_presence(request.channel)
        return {
            "presence": {
                each.connection: pydantic_core.from_json(
                    client_info(each.user_id, each.connection, *(each.info or ()))
                )
                for each in self._presence.clients(channel)
            }
        }

    async def presence_stats(self, request: ChannelRequest) -> PresenceStatsResult:
        clients, users = self._presence.stats(self._with_presence(request.channel))
        return {"num_clients": clients, "num_users": users}

    async def history(self, request: HistoryRequest) -> HistoryResult:
        """
        Raises:
            Unrecoverable: the position is none of this stream's.
            Unavailable: the stream does not answer.
            ApiError: nothing is read of such a channel.
        """
        channel = self._with_history(request.channel)
        since = request.since
        if request.reverse and since is not None and not since.offset:
            raise ApiError(ApiErrorCode.BAD_REQUEST, "since: nothing is before the offset 0")
        page = await self._pages.read(
            channel,
            limit=request.limit,
            since=None if since is None else (since.offset, since.epoch or None),
            reverse=request.reverse,
        )
        answer: HistoryResult = pydantic_core.from_json(
            page_json(page, whole_list(page.publications))
        )
        return answer

    async def history_remove(self, request: ChannelRequest) -> Done:
        """Not available: who comes back would not be told that something was taken away."""
        self._with_history(request.channel)
        raise ApiError(ApiErrorCode.NOT_AVAILABLE, "publications stay until they are too old")

    def _with_presence(self, name: str) -> ChannelName:
        channel = channel_named(name)
        if not options_of(self._namespaces, channel).presence:
            raise ApiError(ApiErrorCode.NOT_AVAILABLE, "the channel has no presence")
        if not self._presence.caught_up:
            raise Unavailable("who is present is not known")
        return channel

    def _with_history(self, name: str) -> ChannelName:
        channel = channel_named(name)
        if not options_of(self._namespaces, channel).history:
            raise ApiError(ApiErrorCode.NOT_AVAILABLE, "the channel has no history")
        return channel
