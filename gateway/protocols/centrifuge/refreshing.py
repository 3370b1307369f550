"""The commands that show another token: of the connection, or of a subscription."""

from gateway.protocols.centrifuge import codes, commands
from gateway.protocols.centrifuge.codes import Disconnected, Errors, Refused, error_of
from gateway.protocols.centrifuge.commands import Command
from gateway.protocols.centrifuge.dialogue import Dialogue, checked_channel, expiry_json, ttl_of
from gateway.protocols.centrifuge.service import details_of
from gateway.protocols.centrifuge.subscriptions import show_again
from hubbub_client.contracts.errors import AppError
from hubbub_client.contracts.ids import ChannelName
from shared.tokens.claims import Subscriber
from shared.tokens.errors import TokenExpired


def refresh(client: Dialogue, command: Command) -> bool:
    asked = command.request
    assert isinstance(asked, commands.Refresh)
    if not asked.token:
        raise Disconnected(codes.BAD_REQUEST)
    return client.run(command, _renew(client, command, asked.token))


async def _renew(client: Dialogue, command: Command, token: str) -> None:
    session = client.session
    before = session.claims
    try:
        await session.renew(token, allow_anonymous=client.service.allows_anonymous)
    except TokenExpired:
        raise Disconnected(codes.CONNECTION_EXPIRED) from None
    except AppError as error:
        if error_of(error) is Errors.INTERNAL:  # nobody can tell now, so the SDKs ask again
            raise
        raise Disconnected(codes.INVALID_TOKEN) from error
    if session.claims.channels.keys() != before.channels.keys():
        raise Disconnected(codes.INSUFFICIENT_STATE)
    if session.claims.info != before.info:
        show_again(client)
    ttl = ttl_of(session.claims.expires_at)
    client.reply(command, expiry_json(ttl))


def sub_refresh(client: Dialogue, command: Command) -> bool:
    asked = command.request
    assert isinstance(asked, commands.SubRefresh)
    if not asked.token:
        raise Refused(Errors.BAD_REQUEST)
    channel = checked_channel(asked.channel) if asked.channel else None
    return client.run(command, _renew_subscription(client, command, channel, asked.token))


async def _renew_subscription(
    client: Dialogue, command: Command, channel: ChannelName | None, token: str
) -> None:
    session = client.session
    if channel is not None and not session.is_subscribed(channel):
        raise Refused(Errors.PERMISSION_DENIED)
    authenticator = client.service.access.authenticator
    subscriber = Subscriber(session.user_id, client.connection.id, channel)
    try:
        claims = await authenticator.verify_subscription(token, subscriber)
        authenticator.confirm(claims)
    except TokenExpired:
        # An error would make the SDKs give the subscription up; so they fetch a new token.
        raise Disconnected(codes.SUBSCRIPTION_EXPIRED) from None
    except AppError as error:
        if error_of(error) in (Errors.INTERNAL, Errors.EXPIRED):
            raise
        raise Disconnected(codes.INVALID_TOKEN) from error
    subscription = session.subscription_to(claims.channel)
    if subscription is None:
        raise Refused(Errors.PERMISSION_DENIED)
    before = details_of(subscription).grant.info
    client.service.remember(subscription, claims.grant, claims.expires_at)
    if claims.grant.info != before:
        show_again(client, subscription)
    client.reply(command, expiry_json(ttl_of(claims.expires_at)))
