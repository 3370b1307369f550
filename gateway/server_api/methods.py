"""The commands of the API by name: what each takes, and what it returns."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from gateway.server_api import requests, results
from gateway.server_api.errors import ApiErrorCode, Result

Run = Callable[[Any], Result]
"""Carries a command out: gets what it takes, and returns the result."""


class Method(NamedTuple):
    takes: type[requests.ApiRequest]
    gives: Any
    """The type of its result."""
    errors: Sequence[ApiErrorCode] = ()
    """Beside `BAD_REQUEST`, which all may have."""
    is_sent_at_once: bool = False
    """Whether it is on its way once `Run` returns: so it needs no task to go on beside others."""


_UNAVAILABLE = [ApiErrorCode.INTERNAL]
_OF_A_CHANNEL = [ApiErrorCode.UNKNOWN_CHANNEL, ApiErrorCode.NOT_AVAILABLE]
_PUBLISHING = [*_UNAVAILABLE, *_OF_A_CHANNEL, ApiErrorCode.CONFLICT]
_READING = [*_UNAVAILABLE, *_OF_A_CHANNEL]

METHODS: Mapping[str, Method] = {
    "publish": Method(
        requests.PublishRequest, results.PublishResult, _PUBLISHING, is_sent_at_once=True
    ),
    "broadcast": Method(
        requests.BroadcastRequest, results.BroadcastResult, [ApiErrorCode.NOT_AVAILABLE]
    ),
    "presence": Method(requests.ChannelRequest, results.PresenceResult, _READING),
    "presence_stats": Method(requests.ChannelRequest, results.PresenceStatsResult, _READING),
    "history": Method(
        requests.HistoryRequest, results.HistoryResult, [*_READING, ApiErrorCode.UNRECOVERABLE]
    ),
    "history_remove": Method(requests.ChannelRequest, results.Done, _OF_A_CHANNEL),
    "subscribe": Method(requests.SubscribeRequest, results.Done, _READING),
    "unsubscribe": Method(requests.UnsubscribeRequest, results.Done, _UNAVAILABLE),
    "disconnect": Method(requests.DisconnectRequest, results.Done, _UNAVAILABLE),
    "refresh": Method(requests.RefreshRequest, results.Done, _UNAVAILABLE),
    "channels": Method(
        requests.ChannelsRequest,
        results.ChannelsResult,
        [*_UNAVAILABLE, ApiErrorCode.NOT_AVAILABLE],
    ),
    "info": Method(requests.InfoRequest, results.InfoResult, _UNAVAILABLE),
    "rpc": Method(requests.RpcRequest, results.Done, [ApiErrorCode.NOT_FOUND]),
}
"""All but `batch`, whose answer has no result."""
