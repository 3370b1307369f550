"""What services do to connections over the server API, as each gateway does it to its own.

An order that comes twice has done all that it says the first time, so it may be tried again.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pydantic_core
import structlog
from pydantic import Field

from gateway.channels.registry import Member, Subscription, for_each
from gateway.cluster import Question
from gateway.errors import EndReason, MayNotSubscribe
from gateway.protocols.centrifuge import codes, commands
from gateway.protocols.centrifuge.codec import json_of
from gateway.protocols.centrifuge.dialogue import Dialogue, expiry_json, ttl_of
from gateway.protocols.centrifuge.service import CentrifugeKind, CentrifugeService
from gateway.protocols.centrifuge.subscriptions import (
    Missed,
    Wanted,
    begin_subscription,
    enter,
    missing_from,
    show_again,
    subscribed,
)
from gateway.session.missed import Position
from gateway.session.recovery import ConnectionLost
from gateway.session.session import Session
from gateway.transport.frames import Close
from hubbub_client.contracts.errors import AppError
from hubbub_client.contracts.ids import ChannelName, UserId
from shared.tokens.claims import NEVER, read_grant, read_raw

log = structlog.get_logger(__name__)

_OF_A_PUSH = ("recoverable", "epoch", "offset", "positioned", "data")
"""Of the result of a subscribe; the rest answers what a client asked for."""


class Whose(Question):
    """The connections of a user; all, or one."""

    user: str
    """Empty for those of nobody in particular."""
    client: str = ""
    session: str = ""
    """The secret by which one is known whose transport is no WebSocket of an SDK."""


class SubscribeOrder(Whose):
    channel: str
    grant: Mapping[str, Any] = Field(default_factory=dict)
    """What `read_grant` reads, as it stands in the `subs` of a token."""
    expire_at: float = 0
    recover_since: commands.Position | None = None


class UnsubscribeOrder(Whose):
    channel: str


class DisconnectOrder(Whose):
    whitelist: frozenset[str] = frozenset()
    """Clients that stay."""
    code: int
    reason: str


class RefreshOrder(Whose):
    expired: bool = False
    expire_at: float = 0
    """0 leaves it as it is; so does no info."""
    info: Mapping[str, Any] = Field(default_factory=dict)
    """What `read_raw` reads of its name."""


class Orders:
    """Carries them out on this gateway. Those to `/ws/chat` are to end, or to go on."""

    def __init__(self, service: CentrifugeService) -> None:
        self._service = service
        self._manager = service.manager
        handle = service.cluster.handle
        handle("subscribe", SubscribeOrder, self.subscribe)
        handle("unsubscribe", UnsubscribeOrder, self.unsubscribe)
        handle("disconnect", DisconnectOrder, self.disconnect)
        handle("refresh", RefreshOrder, self.refresh)

    def subscribe(self, order: SubscribeOrder) -> None:
        """
        Raises:
            MayNotSubscribe: the user may not, by the settings here. Those of the gateway that was
                asked may be others, as while gateways are replaced.
        """
        channel, user_id = ChannelName(order.channel), UserId(order.user)
        refusal = self._service.namespaces.why_not_subscribe(channel, user_id, by_token=True)
        if refusal is not None:
            raise MayNotSubscribe(f"no subscribing to {channel}", refusal)
        self._for_each_sdk(order, partial(self._subscribe, order))

    def unsubscribe(self, order: UnsubscribeOrder) -> None:
        self._for_each_sdk(order, partial(self._unsubscribe, order))

    def disconnect(self, order: DisconnectOrder) -> None:
        close = Close(order.code, order.reason)

        def end(member: Member) -> None:
            if member.connection.id not in order.whitelist:
                member.connection.close(close if _is_sdk(member) else EndReason.SESSION_ENDED)

        for_each(self._members(order), end)

    def refresh(self, order: RefreshOrder) -> None:
        for_each(self._members(order), partial(self._refresh, order))

    def _members(self, whose: Whose) -> Iterator[Member]:
        named = self._service.named.get(whose.session)
        for member in self._manager.connections_of(UserId(whose.user)):
            is_client = whose.client in ("", member.connection.id)
            if is_client and (not whose.session or member.connection is named):
                yield member

    def _for_each_sdk(self, whose: Whose, step: Callable[[Session, Dialogue], None]) -> None:
        service = self._service

        def take(member: Member) -> None:
            if isinstance(member, Session) and isinstance(member.kind, CentrifugeKind):
                client = Dialogue.of(member, service, member.kind.codec)
                service.when_connected(member, partial(step, member, client))

        for_each(self._members(whose), take)

    def _subscribe(self, order: SubscribeOrder, session: Session, client: Dialogue) -> None:
        channel = ChannelName(order.channel)
        if session.is_subscribed(channel):
            return
        since = order.recover_since
        position = commands.Position() if since is None else since
        asked = commands.Subscribe(
            channel=channel,
            recover=since is not None,
            offset=position.offset,
            epoch=position.epoch,
        )
        wanted = Wanted(
            channel,
            session.options_of(channel, by_token=True),
            asked,
            read_grant(dict(order.grant)),
            expires_at=order.expire_at or NEVER,
            is_server_side=True,
        )
        subscription = begin_subscription(client, wanted)
        positions = missing_from(client, {subscription: wanted})
        recent = session.recent(positions)
        if recent is not None:
            _tell(client, subscription, wanted, recent.get(subscription))
        else:
            session.connection.start(_recover(client, subscription, wanted, positions))

    def _unsubscribe(self, order: UnsubscribeOrder, session: Session, _client: Dialogue) -> None:
        subscription = session.subscription_to(ChannelName(order.channel))
        if subscription is not None:
            self._service.unsubscribe(session, subscription, codes.SERVER_UNSUBSCRIBE)

    def _refresh(self, order: RefreshOrder, member: Member) -> None:
        assert isinstance(member, Session)
        if order.expired:
            member.connection.close(EndReason.TOKEN_EXPIRED)
            return
        claims = member.claims
        info = read_raw(order.info, "info")
        self._manager.renew(
            member,
            replace(
                claims,
                expires_at=order.expire_at or claims.expires_at,
                info=claims.info if info is None else info,
            ),
        )
        member.end_with_token()
        if isinstance(member.kind, CentrifugeKind):
            client = Dialogue.of(member, self._service, member.kind.codec)
            self._service.when_connected(
                member, partial(_tell_expiry, client, has_info=info is not None)
            )


def _is_sdk(member: Member) -> bool:
    return isinstance(member, Session) and isinstance(member.kind, CentrifugeKind)


async def _recover(
    client: Dialogue,
    subscription: Subscription,
    wanted: Wanted,
    positions: Mapping[Subscription, Position | None],
) -> None:
    missed: Missed = None
    try:
        missed = (await client.session.missed(positions))[subscription]
    except ConnectionLost:
        return
    except AppError as error:  # then it has what comes from now on
        log.info("not_recovered", connection_id=client.connection.id, reason=str(error))
    if client.session.subscription_to(wanted.channel) is subscription:
        _tell(client, subscription, wanted, missed)


def _tell(client: Dialogue, subscription: Subscription, wanted: Wanted, missed: Missed) -> None:
    """Push the subscription, and then what it missed: a push has no place for that."""
    result = pydantic_core.from_json(subscribed(client, subscription, wanted, missed))
    body = {name: result[name] for name in _OF_A_PUSH if name in result}
    push = client.codec.push
    client.connection.send(push(wanted.channel, b"subscribe", json_of(body)))
    for publication in result.get("publications", ()):
        client.connection.send(push(wanted.channel, b"pub", json_of(publication)))
    enter(client, subscription, wanted)


def _tell_expiry(client: Dialogue, *, has_info: bool) -> None:
    session = client.session
    body = expiry_json(ttl_of(session.claims.expires_at))
    client.connection.send(client.codec.push(None, b"refresh", body))
    if has_info:
        show_again(client)
