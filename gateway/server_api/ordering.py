"""The commands for connections, which all gateways carry out on their own."""

from collections.abc import Mapping

from gateway.channels.namespaces import Namespaces
from gateway.cluster import Cluster
from gateway.errors import MAX_REASON_BYTES, is_close_reason
from gateway.protocols.centrifuge.codes import FORCE_DISCONNECT
from gateway.server_api.errors import CODE_OF_REFUSAL, Answer, ApiError, ApiErrorCode
from gateway.server_api.methods import Run
from gateway.server_api.requests import (
    DisconnectRequest,
    RefreshRequest,
    SubscribeRequest,
    UnsubscribeRequest,
    channel_named,
)
from gateway.server_api.results import Done
from hubbub_client.contracts.errors import Unavailable
from hubbub_client.jetstream.clock import our_clock
from shared.tokens.claims import read_raw
from shared.tokens.errors import InvalidToken

_CODES = range(3000, 5000)


class Ordering:
    """Tells all gateways what to do, and answers when all have done it."""

    def __init__(self, cluster: Cluster, *, namespaces: Namespaces) -> None:
        self._cluster = cluster
        self._namespaces = namespaces
        self.methods: Mapping[str, Run] = {
            "subscribe": self.subscribe,
            "unsubscribe": self.unsubscribe,
            "disconnect": self.disconnect,
            "refresh": self.refresh,
        }

    async def subscribe(self, request: SubscribeRequest) -> Done:
        channel = channel_named(request.channel)
        refusal = self._namespaces.why_not_subscribe(channel, request.user_id, by_token=True)
        if refusal is not None:
            raise ApiError(CODE_OF_REFUSAL[refusal], "channel")
        request.check_grant()
        _check_end(request.expire_at)
        since = request.recover_since
        return await self._order(
            "subscribe",
            request.whose
            | {
                "channel": channel,
                "grant": request.grant,
                "expire_at": request.expire_at,
                "recover_since": None if since is None else since.model_dump(),
            },
        )

    async def unsubscribe(self, request: UnsubscribeRequest) -> Done:
        channel = channel_named(request.channel)
        return await self._order("unsubscribe", request.whose | {"channel": channel})

    async def disconnect(self, request: DisconnectRequest) -> Done:
        how = request.disconnect
        code = how.code or request.code or FORCE_DISCONNECT.code
        reason = how.reason or request.reason or FORCE_DISCONNECT.reason
        if code not in _CODES:
            raise ApiError(ApiErrorCode.BAD_REQUEST, "disconnect.code: not from 3000 to 4999")
        if not is_close_reason(reason):
            raise ApiError(
                ApiErrorCode.BAD_REQUEST,
                f"disconnect.reason: not a text of at most {MAX_REASON_BYTES} bytes, or JSON",
            )
        return await self._order(
            "disconnect",
            request.whose | {"whitelist": request.whitelist, "code": code, "reason": reason},
        )

    async def refresh(self, request: RefreshRequest) -> Done:
        info = request.model_dump(include={"info", "b64info"}, exclude_none=True)
        try:
            read_raw(info, "info")
        except InvalidToken as error:
            raise ApiError(ApiErrorCode.BAD_REQUEST, "info: not readable by all") from error
        if not request.expired:
            _check_end(request.expire_at)
        order = {"expired": request.expired, "expire_at": request.expire_at, "info": info}
        return await self._order("refresh", request.whose | order)

    async def _order(self, kind: str, order: Answer) -> Done:
        """
        Raises:
            Unavailable: some gateway may not have done it. It may be ordered again.
        """
        if not (await self._cluster.survey(kind, order)).is_complete:
            raise Unavailable("not all gateways have answered")
        return {}


def _check_end(expire_at: int) -> None:
    if expire_at and expire_at <= our_clock():
        raise ApiError(ApiErrorCode.BAD_REQUEST, "expire_at: it is over already")
