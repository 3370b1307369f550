"""The commands that publish and ask: one function each. A command is answered, or under way."""

import asyncio
from functools import partial

import pydantic_core

from gateway.presence.users import Client
from gateway.protocols.centrifuge import codes, commands
from gateway.protocols.centrifuge.codec import an_object, client_info, json_of
from gateway.protocols.centrifuge.codes import Disconnected, Errors, Refused, error_of
from gateway.protocols.centrifuge.commands import Command
from gateway.protocols.centrifuge.dialogue import Dialogue, checked_channel
from gateway.protocols.centrifuge.service import details_of
from gateway.protocols.centrifuge.subscriptions import is_shown
from gateway.proxies.errors import BadMethod
from gateway.streams.feed import Unrecoverable
from gateway.streams.pages import Page
from gateway.streams.publishing import PublishResult
from gateway.transport.frames import Close
from hubbub_client.contracts.errors import AppError, Unavailable
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import Sender

_OWN_ENTRY_SECONDS = 1.0


def publish(client: Dialogue, command: Command) -> bool:
    asked, session = command.request, client.session
    assert isinstance(asked, commands.Publish)
    if not asked.channel:
        raise Disconnected(codes.BAD_REQUEST)
    channel = checked_channel(asked.channel)
    if asked.data is None:
        raise Refused(Errors.BAD_REQUEST)
    if client.service.namespaces.lets_application_publish(channel):
        return client.run(command, _publish_if_allowed(client, command, asked, channel))
    sender = _sender(client, channel)
    if client.service.namespaces.is_ephemeral(channel):
        session.publish_ephemeral(channel, asked.data, sender=sender)
        client.reply(command, b"{}")
        return False
    session.publish(
        channel,
        asked.data,
        partial(_published, client, command),
        as_subscriber=channel in client.left,
        sender=sender,
    )
    return True


async def _publish_if_allowed(
    client: Dialogue, command: Command, asked: commands.Publish, channel: ChannelName
) -> None:
    """In its turn, so that what a client says keeps its order."""
    session, namespaces = client.session, client.service.namespaces
    was_subscribed = session.is_subscribed(channel) or channel in client.left
    refusal = namespaces.why_not_publish(
        channel, session.user_id, is_subscribed=was_subscribed, by_application=True
    )
    if refusal is not None:
        raise Refused(codes.ERROR_OF_REFUSAL[refusal])
    approved = await client.service.proxies.publish(client.caller, channel, asked.data)
    data = asked.data if approved.data is None else approved.data
    sender = _sender(client, channel)
    if approved.version:
        raise Refused(Errors.NOT_AVAILABLE)
    if approved.skip_history or namespaces.is_ephemeral(channel):
        refusal = namespaces.why_not_pass_on(channel)
        if refusal is not None:
            raise Refused(codes.ERROR_OF_REFUSAL[refusal])
        session.publish_ephemeral(
            channel, data, sender=sender, by_application=True, tags=approved.tags
        )
    else:
        stored: asyncio.Future[PublishResult] = asyncio.get_running_loop().create_future()

        def on_stored(result: PublishResult) -> None:
            if not stored.done():  # else it is cancelled
                stored.set_result(result)

        session.publish(
            channel,
            data,
            on_stored,
            client_id=approved.idempotency_key or None,
            as_subscriber=was_subscribed,
            by_application=True,
            sender=sender,
            tags=approved.tags,
            delta=approved.delta,
        )
        result = await stored
        if isinstance(result, AppError):
            raise result
    client.reply(command, b"{}")


def _sender(client: Dialogue, channel: ChannelName) -> Sender:
    claims = client.session.claims
    subscription = client.session.subscription_to(channel)
    return Sender(
        claims.user_id,
        claims.name,
        client.connection.id,
        _value(claims.info),
        _value(details_of(subscription).grant.info),
    )


def _published(client: Dialogue, command: Command, result: PublishResult) -> None:
    if isinstance(result, AppError):
        client.refuse(command, error_of(result))
    else:
        client.reply(command, b"{}")
    client.done()


def presence(client: Dialogue, command: Command) -> bool:
    return client.run(command, _read_presence(client, command, _seen(client, command)))


async def _read_presence(client: Dialogue, command: Command, channel: ChannelName) -> None:
    client.session.pay_for(client.service.presence.stats(channel).connections)
    clients = [
        b"%b:%b" % (
            json_of(each.connection),
            client_info(each.user_id, each.connection, *(each.info or ())),
        )
        for each in await _clients_in(client, channel)
    ]  # fmt: skip
    client.reply(command, b'{"presence":{%b}}' % b",".join(clients))


def presence_stats(client: Dialogue, command: Command) -> bool:
    return client.run(command, _read_presence_stats(client, command, _seen(client, command)))


async def _read_presence_stats(client: Dialogue, command: Command, channel: ChannelName) -> None:
    await _is_seen_itself(client, channel)
    clients, users = client.service.presence.stats(channel)
    if _is_seen_no_more(client, channel):
        entries = client.service.presence.entries(channel, client.session.user_id).values()
        if any(client.connection.id in entry.connections for entry in entries):
            clients -= 1
            users -= sum(entry.connection_count for entry in entries) == 1
    client.reply(command, b'{"num_clients":%d,"num_users":%d}' % (clients, users))


async def _clients_in(client: Dialogue, channel: ChannelName) -> list[Client]:
    """Those who are there, as this client has to see it: itself as it knows to be."""
    await _is_seen_itself(client, channel)
    clients = client.service.presence.clients(channel)
    if _is_seen_no_more(client, channel):
        return [each for each in clients if each.connection != client.connection.id]
    return clients


async def _is_seen_itself(client: Dialogue, channel: ChannelName) -> None:
    """Wait a moment for its own entry, if it has just come in."""
    session = client.session
    subscription = session.subscription_to(channel)
    if subscription is not None and is_shown(client, subscription):
        seen = asyncio.Event()
        client.service.presence.when_present(
            channel,
            session.user_id,
            _OWN_ENTRY_SECONDS,
            lambda _is_there: seen.set(),
            connection=client.connection.id,
        )
        await seen.wait()


def _is_seen_no_more(client: Dialogue, channel: ChannelName) -> bool:
    """Whether its own entry, if any is there still, is of before it left."""
    return not client.session.is_subscribed(channel)


def _seen(client: Dialogue, command: Command) -> ChannelName:
    """The channel whose presence may be seen."""
    asked, session = command.request, client.session
    assert isinstance(asked, commands.Presence | commands.PresenceStats)
    if not asked.channel:
        raise Disconnected(codes.BAD_REQUEST)
    channel = checked_channel(asked.channel)
    refusal = client.service.namespaces.why_not_see_presence(
        channel, session.user_id, is_subscribed=session.is_subscribed(channel)
    )
    if refusal is not None:
        raise Refused(codes.ERROR_OF_REFUSAL[refusal])
    if not client.service.presence.caught_up:
        raise Unavailable("who is present is not known")
    return channel


def history(client: Dialogue, command: Command) -> bool:
    asked, session = command.request, client.session
    assert isinstance(asked, commands.History)
    if not asked.channel:
        raise Disconnected(codes.BAD_REQUEST)
    channel = checked_channel(asked.channel)
    refusal = client.service.namespaces.why_not_read_history(
        channel, session.user_id, is_subscribed=session.is_subscribed(channel)
    )
    if refusal is not None:
        raise Refused(codes.ERROR_OF_REFUSAL[refusal])
    if asked.reverse and asked.since is not None and not asked.since.offset:
        raise Refused(Errors.BAD_REQUEST)
    most = client.service.history_limit
    limit = most if asked.limit < 0 else min(asked.limit, most)
    session.pay_for(limit)
    return client.run(command, _read_history(client, command, channel, asked, limit))


async def _read_history(
    client: Dialogue, command: Command, channel: ChannelName, asked: commands.History, limit: int
) -> None:
    since = asked.since
    try:
        page = await client.service.pages.read(
            channel,
            limit=limit,
            since=None if since is None else (since.offset, since.epoch or None),
            reverse=asked.reverse,
        )
    except Unrecoverable:
        raise Refused(Errors.UNRECOVERABLE_POSITION) from None
    client.session.pay_for(0, sum(len(each.payload) for each in page.publications))
    formats, known = client.service.kind_of(client.codec).formats, client.session.kind.encodings
    publications = formats.replayed(formats.whole, page.publications, in_patches=False, known=known)
    client.reply(command, page_json(page, publications))


def page_json(page: Page, publications: bytes) -> bytes:
    """A page of history, as it is answered; all members are there even if empty or 0.

    Args:
        publications: Those of the page as `Formats.replayed` gives them.
    """
    return b'{"publications":%b,"epoch":%b,"offset":%d}' % (
        publications or b"[]", json_of(page.epoch), page.top,
    )  # fmt: skip


def rpc(client: Dialogue, command: Command) -> bool:
    asked = command.request
    assert isinstance(asked, commands.Rpc)
    if not client.service.proxies.takes_calls:
        raise Refused(Errors.NOT_AVAILABLE)
    return client.run_beside(command, _call(client, command, asked))


async def _call(client: Dialogue, command: Command, asked: commands.Rpc) -> None:
    try:
        data = await client.service.proxies.rpc(client.caller, asked.method, asked.data)
    except BadMethod:
        raise Refused(Errors.METHOD_NOT_FOUND) from None
    client.reply(command, an_object((b"data", data)))


def send(client: Dialogue, command: Command) -> bool:
    raise Disconnected(Close(3508, "not available"))


def _value(raw: bytes | None) -> object:
    return None if raw is None else pydantic_core.from_json(raw)
