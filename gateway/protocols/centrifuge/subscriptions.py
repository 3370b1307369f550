"""Subscribing: who may, in which format, what was missed, and the result as it is answered."""

import math
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from gateway.channels.connection import Format
from gateway.channels.options import Namespace
from gateway.channels.registry import Subscription
from gateway.presence.records import ClientInfo
from gateway.protocols.centrifuge import codes, commands
from gateway.protocols.centrifuge.codec import an_object, if_some, if_true, json_of
from gateway.protocols.centrifuge.codes import Disconnected, Errors, Refused
from gateway.protocols.centrifuge.commands import Command
from gateway.protocols.centrifuge.dialogue import Dialogue, checked_channel, ttl_of
from gateway.protocols.centrifuge.filters import BadFilter
from gateway.protocols.centrifuge.formats import Formats
from gateway.protocols.centrifuge.service import EXPIRY_GRACE_SECONDS, SERVER_SIDE, details_of
from gateway.session.missed import Position
from gateway.streams.feed import Reason
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import StoredPublication
from hubbub_client.jetstream.clock import our_clock
from shared.tokens.claims import NO_GRANT, Grant, Subscriber, SubscriptionClaims
from shared.tokens.errors import TokenMismatch
from shared.web.user_rates import TooFast

_SHARED_POLL = 4

Missed = list[StoredPublication] | Reason | None
"""What came while a client was away; or why that can't be had; None if it did not ask."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A subscription to be, that the client or its token asks for, and that it may have."""

    channel: ChannelName
    options: Namespace
    """As `Session.options_of` gave them."""
    asked: commands.Subscribe
    grant: Grant
    expires_at: float = math.inf
    is_server_side: bool = False
    by_application: bool = False
    """There is no token to refresh then: when it is over, the client subscribes again."""


def subscribe(client: Dialogue, command: Command) -> bool:
    asked, session = command.request, client.session
    assert isinstance(asked, commands.Subscribe)
    if not asked.channel or (asked.delta and asked.delta != "fossil"):
        raise Disconnected(codes.BAD_REQUEST)
    channel = checked_channel(asked.channel)
    if session.is_subscribed(channel) or channel in client.asking:
        raise Refused(Errors.ALREADY_SUBSCRIBED)
    if len(session.subscriptions) + len(client.asking) >= client.service.channel_limit:
        raise Refused(Errors.LIMIT_EXCEEDED)
    if asked.type:
        raise Refused(Errors.NOT_AVAILABLE if asked.type == _SHARED_POLL else
                      Errors.PERMISSION_DENIED)  # fmt: skip
    if not asked.token and client.service.namespaces.lets_application_subscribe(channel):
        client.asking[channel] = command
        return client.run_beside(command, _subscribe_if_allowed(client, command, asked, channel))
    if not asked.token:
        options = session.options_of(channel)
        return _subscribe_to(client, command, Wanted(channel, options, asked, NO_GRANT))
    subscriber = Subscriber(session.user_id, client.connection.id, channel)
    authenticator = client.service.access.authenticator
    claims = _judged(partial(authenticator.verify_subscription_at_once, asked.token, subscriber))
    if claims is not None:
        return _subscribe_to(client, command, _granted(client, channel, asked, claims))
    return client.run(command, _subscribe_with_token(client, command, asked, channel, subscriber))


async def _subscribe_with_token(
    client: Dialogue,
    command: Command,
    asked: commands.Subscribe,
    channel: ChannelName,
    subscriber: Subscriber,
) -> None:
    authenticator = client.service.access.authenticator
    claims = await _judged_later(authenticator.verify_subscription(asked.token, subscriber))
    if not client.connection.is_open:
        return
    if client.session.is_subscribed(channel):  # by a service, meanwhile
        raise Refused(Errors.ALREADY_SUBSCRIBED)
    authenticator.confirm(claims)
    wanted = _granted(client, channel, asked, claims)
    subscription = begin_subscription(client, wanted)
    await _recover(client, command, subscription, wanted)


async def _subscribe_if_allowed(
    client: Dialogue, command: Command, asked: commands.Subscribe, channel: ChannelName
) -> None:
    asking = client.asking
    try:
        allowed = await client.service.proxies.subscribe(client.caller, channel, asked.data)
    finally:
        is_wanted_still = asking.get(channel) is command
        if is_wanted_still:
            del asking[channel]
    if not client.connection.is_open:
        return
    if not is_wanted_still:  # it has unsubscribed meanwhile
        raise Refused(Errors.PERMISSION_DENIED)
    if client.session.is_subscribed(channel):  # by a service
        raise Refused(Errors.ALREADY_SUBSCRIBED)
    if allowed.expires_at <= our_clock():
        raise Refused(Errors.EXPIRED)
    wanted = Wanted(
        channel,
        client.session.options_of(channel, by_token=True),
        asked,
        allowed.grant,
        expires_at=allowed.expires_at,
        by_application=True,
    )
    await _recover(client, command, begin_subscription(client, wanted), wanted)


def _subscribe_to(client: Dialogue, command: Command, wanted: Wanted) -> bool:
    subscription = begin_subscription(client, wanted)
    positions = missing_from(client, {subscription: wanted})
    recent = client.session.recent(positions)
    if recent is None:
        return client.run(command, _recover(client, command, subscription, wanted))
    _answer_subscribe(client, command, subscription, wanted, recent.get(subscription))
    return False


def begin_subscription(client: Dialogue, wanted: Wanted) -> Subscription:
    session = client.session
    manager = client.service.manager
    subscription = manager.subscribe(session, wanted.channel, _format(client, wanted))
    if wanted.is_server_side:
        subscription.details = SERVER_SIDE
    client.service.remember(
        subscription,
        wanted.grant,
        wanted.expires_at,
        grace_seconds=0.0 if wanted.by_application else EXPIRY_GRACE_SECONDS,
    )
    return subscription


def _format(client: Dialogue, wanted: Wanted) -> Format:
    """In which format the client asks to see publications, if it may."""
    formats = _formats(client)
    if wanted.asked.tf is not None:
        if not wanted.options.allow_tags_filter or wanted.asked.delta:
            raise Refused(Errors.BAD_REQUEST)
        try:
            return formats.filtered(wanted.asked.tf)
        except BadFilter:
            raise Refused(Errors.BAD_REQUEST) from None
    return formats.first_whole if _has_delta(wanted) else formats.whole


def _has_delta(wanted: Wanted) -> bool:
    options = wanted.options
    return options.history and wanted.asked.delta in options.allowed_delta_types


def _formats(client: Dialogue) -> Formats:
    return client.service.kind_of(client.codec).formats


async def _recover(
    client: Dialogue, command: Command, subscription: Subscription, wanted: Wanted
) -> None:
    session = client.session
    positions = missing_from(client, {subscription: wanted})
    try:
        missed = await session.missed(positions)
    except BaseException:
        give_up(client, subscription)
        raise
    if session.subscription_to(wanted.channel) is not subscription:  # it was ended meanwhile
        is_expired = subscription.details is codes.SUBSCRIPTION_OVER
        raise Refused(Errors.INTERNAL if is_expired else Errors.PERMISSION_DENIED)
    _answer_subscribe(client, command, subscription, wanted, missed.get(subscription))


def _answer_subscribe(
    client: Dialogue, command: Command, subscription: Subscription, wanted: Wanted, missed: Missed
) -> None:
    if isinstance(missed, Reason) and wanted.asked.rejects_unrecovered:
        give_up(client, subscription)
        raise Refused(Errors.UNRECOVERABLE_POSITION)
    try:
        client.session.pay_for(count_of(missed))
    except TooFast:
        give_up(client, subscription)
        raise
    result = subscribed(client, subscription, wanted, missed)
    client.reply(command, result)
    enter(client, subscription, wanted)


def subscribed(
    client: Dialogue, subscription: Subscription, wanted: Wanted, missed: Missed
) -> bytes:
    """Turn it live, and say from where on; in the step in which that is so."""
    asked = wanted.asked
    has_recovered = isinstance(missed, list)
    offset = position = client.service.catch_up.position
    if isinstance(missed, list) and asked.epoch in ("", client.service.catch_up.epoch):
        offset, position = asked.offset, max(position, asked.offset)
        if missed and missed[0].offset <= offset:  # it may have the newest one
            missed = [each for each in missed if each.offset > offset]
    subscription.live_from = position + 1
    is_recoverable = recovers(client, wanted)
    is_positioned = is_recoverable or _is_positioned(client, wanted)
    has_delta = _has_delta(wanted)
    publications = _replayed(client, subscription, missed, has_delta=has_delta)
    ttl = None if wanted.by_application else ttl_of(wanted.expires_at)
    return an_object(
        (b"expires", if_true(ttl is not None)),
        (b"ttl", None if ttl is None else b"%d" % ttl),
        (b"recoverable", if_true(is_recoverable)),
        (b"epoch", json_of(client.service.catch_up.epoch) if is_positioned else None),
        (b"publications", publications),
        (b"recovered", if_true(has_recovered)),
        (b"offset", if_some(offset) if is_positioned else None),
        (b"positioned", if_true(is_positioned)),
        (b"data", wanted.grant.data),
        (b"was_recovering", if_true(asked.recover)),
        (b"delta", if_true(has_delta)),
    )


def _replayed(
    client: Dialogue, subscription: Subscription, missed: Missed, *, has_delta: bool
) -> bytes | None:
    """What the client missed, as JSON; None if that is nothing."""
    if not isinstance(missed, list):
        return None
    formats, known = _formats(client), client.session.kind.encodings
    seen = subscription.encode
    publications = formats.replayed(seen, missed, in_patches=has_delta, known=known)
    if publications and has_delta:  # it has what the next patch is of
        client.service.manager.reformat(subscription, formats.patched)
    return publications or None


def count_of(missed: Missed) -> int:
    return len(missed) if isinstance(missed, list) else 0


def missing_from(
    client: Dialogue, subscriptions: Mapping[Subscription, Wanted]
) -> dict[Subscription, Position | None]:
    """Since when each misses something that it shall get; None for the newest publication alone."""
    positions: dict[Subscription, Position | None] = {}
    for subscription, wanted in subscriptions.items():
        if _wants_newest(client, wanted):
            positions[subscription] = None
        elif wanted.asked.recover and recovers(client, wanted):
            positions[subscription] = wanted.asked.offset, wanted.asked.epoch or None
    return positions


def _wants_newest(client: Dialogue, wanted: Wanted) -> bool:
    """Whether the newest publication is to stand for all that it missed, or never saw."""
    options = wanted.options
    return (
        options.force_recovery_mode == "cache"
        and (wanted.asked.recover or options.auto_cache_recover)
        and recovers(client, wanted)
    )


def recovers(client: Dialogue, wanted: Wanted) -> bool:
    """Whether what it misses may be had later."""
    options = wanted.options
    override = wanted.grant.override
    if override is not None and override.force_recovery is not None:
        return override.force_recovery and options.history
    return options.force_recovery or (
        wanted.asked.recoverable
        and client.service.namespaces.may_recover(wanted.channel, client.session.user_id)
    )


def _is_positioned(client: Dialogue, wanted: Wanted) -> bool:
    override = wanted.grant.override
    if override is not None and override.force_positioning is not None:
        return override.force_positioning and wanted.options.history
    return wanted.options.force_positioning or (
        wanted.asked.positioned
        and client.service.namespaces.may_be_positioned(wanted.channel, client.session.user_id)
    )


def enter(client: Dialogue, subscription: Subscription, wanted: Wanted) -> None:
    """Be in the channel for others, and hear who comes and goes, itself first, if it has that.

    After the reply: what is pushed to a subscription comes behind it.
    """
    switched = partial(_switched, wanted.grant, wanted.options)
    show(client, subscription, wanted.grant, wanted.options)
    if switched("join_leave") and (
        switched("force_push_join_leave")
        or (wanted.asked.join_leave and _may_see_presence(client, subscription.channel))
    ):
        client.service.watch(subscription)


def show(client: Dialogue, subscription: Subscription, grant: Grant, options: Namespace) -> None:
    """Let others see that it is in the channel, and what its tokens say of it."""
    if _switched(grant, options, "presence"):
        conn_info, chan_info = client.session.claims.info, grant.info
        info = ClientInfo(conn_info, chan_info) if conn_info or chan_info else None
        if info is not None and not client.service.presence.takes(info):
            info = None
        client.session.enter(subscription, info)


def show_again(client: Dialogue, *subscriptions: Subscription) -> None:
    """Let others see what its tokens say of it now, in all its channels if none is named."""
    for subscription in subscriptions or client.session.subscriptions:
        grant, options = details_of(subscription).grant, _options(client, subscription)
        show(client, subscription, grant, options)


def is_shown(client: Dialogue, subscription: Subscription) -> bool:
    """Whether others see that it is in the channel, as its token has it."""
    grant, options = details_of(subscription).grant, _options(client, subscription)
    return _switched(grant, options, "presence")


def _options(client: Dialogue, subscription: Subscription) -> Namespace:
    options = client.service.namespaces.options_of(subscription.channel)
    assert options is not None  # else it would be none
    return options


def _switched(grant: Grant, options: Namespace, name: str) -> bool:
    """Whether an option is on for a subscription."""
    own = None if grant.override is None else getattr(grant.override, name)
    return bool(getattr(options, name) if own is None else own)


def _may_see_presence(client: Dialogue, channel: ChannelName) -> bool:
    return (
        client.service.namespaces.why_not_see_presence(
            channel, client.session.user_id, is_subscribed=True
        )
        is None
    )


def unsubscribe(client: Dialogue, command: Command) -> bool:
    asked, session = command.request, client.session
    assert isinstance(asked, commands.Unsubscribe)
    if not asked.channel:
        raise Disconnected(codes.BAD_REQUEST)
    channel = checked_channel(asked.channel)
    client.asking.pop(channel, None)
    subscription = session.subscription_to(channel)
    if subscription is not None:
        give_up(client, subscription)
    client.reply(command, b"{}")
    return False


def give_up(client: Dialogue, subscription: Subscription) -> None:
    """It is over."""
    client.service.end(subscription)
    client.session.unsubscribe(subscription)


def _granted(
    client: Dialogue, channel: ChannelName, asked: commands.Subscribe, claims: SubscriptionClaims
) -> Wanted:
    options = client.session.options_of(channel, by_token=True)
    return Wanted(channel, options, asked, claims.grant, expires_at=claims.expires_at)


def _judged(verify: Callable[[], SubscriptionClaims | None]) -> SubscriptionClaims | None:
    try:
        return verify()
    except TokenMismatch:
        raise Disconnected(codes.INVALID_TOKEN) from None


async def _judged_later(verifying: Coroutine[Any, Any, SubscriptionClaims]) -> SubscriptionClaims:
    try:
        return await verifying
    except TokenMismatch:
        raise Disconnected(codes.INVALID_TOKEN) from None
