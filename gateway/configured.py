"""What the settings come to in each room: its limits, and what is made by them alone."""

from gateway.channels.namespaces import Namespaces
from gateway.metrics import GatewayMetrics
from gateway.presence.limits import PresenceLimits
from gateway.proxies.headers import HeaderRules
from gateway.proxies.limits import ProxyLimits
from gateway.proxies.proxies import Proxies, Urls
from gateway.session.buckets import Buckets
from gateway.session.rate import RateLimits
from gateway.settings import GatewaySettings
from gateway.streams.kept import ALL, Kept, KeptOf
from gateway.transport.shared_state import Limits
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.nats.client import Bus


def namespaces(settings: GatewaySettings) -> Namespaces:
    return Namespaces(
        settings.namespaces,
        without_namespace=settings.without_namespace,
        personal=settings.personal_channel,
        insecure=settings.client_insecure,
    )


def rate_limits(settings: GatewaySettings) -> RateLimits:
    """Of one connection."""
    return RateLimits(
        commands_per_second=settings.commands_per_second,
        burst=settings.command_burst,
        max_refusals=settings.max_rate_refusals,
    )


def ephemeral_limits(settings: GatewaySettings) -> RateLimits:
    """Of one connection, in what is not stored."""
    return RateLimits(
        commands_per_second=settings.ephemeral_per_second,
        burst=settings.ephemeral_burst,
        max_refusals=settings.max_rate_refusals,
    )


def buckets(settings: GatewaySettings) -> Buckets:
    """Of all users."""
    return Buckets(
        units_per_second=settings.user_units_per_second,
        burst=settings.user_burst,
        max_users=settings.max_user_buckets,
    )


def ephemeral_buckets(settings: GatewaySettings) -> Buckets:
    """Of all users, in what is not stored."""
    return Buckets(
        units_per_second=settings.user_ephemeral_units_per_second,
        burst=settings.user_ephemeral_burst,
        max_users=settings.max_user_buckets,
    )


def kept_of_namespaces(namespaces: Namespaces) -> KeptOf:
    """What of a channel may be read again, by its namespace."""

    def kept_of(channel: ChannelName) -> Kept:
        options = namespaces.options_of(channel)
        if options is None or (options.history_size is None and options.history_ttl is None):
            return ALL
        return Kept(options.history_size, options.history_ttl)

    return kept_of


def transport_limits(settings: GatewaySettings) -> Limits:
    return Limits(
        max_message_bytes=settings.max_frame_bytes,
        total_unfinished_bytes=settings.total_unfinished_bytes,
        message_seconds=settings.message_seconds,
        bare_frames_per_second=settings.bare_frames_per_second,
        max_pending_bytes=settings.max_pending_bytes,
        total_pending_bytes=settings.total_pending_bytes,
        lag_seconds=settings.lag_seconds,
        ping_seconds=settings.ping_seconds,
        pong_seconds=settings.pong_seconds,
        close_seconds=settings.close_seconds,
        drain_seconds=settings.drain_seconds,
        drain_closes_per_second=settings.drain_closes_per_second,
    )


def proxies(settings: GatewaySettings, bus: Bus, metrics: GatewayMetrics) -> Proxies:
    static_headers = [
        (name.lower().encode(), value.get_secret_value().encode())
        for name, value in settings.proxy_static_headers.items()
    ]
    return Proxies(
        Urls(
            connect=settings.proxy_connect_url,
            refresh=settings.proxy_refresh_url,
            subscribe=settings.proxy_subscribe_url,
            publish=settings.proxy_publish_url,
            rpc=settings.proxy_rpc_url,
        ),
        ProxyLimits(
            timeout_seconds=settings.proxy_timeout_seconds,
            refresh_retry_seconds=settings.proxy_refresh_retry_seconds,
            max_reply_bytes=settings.proxy_max_reply_bytes,
            max_connects=settings.proxy_max_connects,
            max_connects_per_address=settings.proxy_max_connects_per_address,
            max_requests=settings.proxy_max_requests,
            max_requests_per_user=settings.proxy_max_requests_per_user,
        ),
        metrics,
        bus=bus if settings.rpc_over_bus else None,
        headers=HeaderRules(settings.proxy_headers, settings.proxy_emulated_headers),
        static_headers=tuple(static_headers),
    )


def presence_limits(settings: GatewaySettings) -> PresenceLimits:
    return PresenceLimits(
        grace_seconds=settings.presence_grace_seconds,
        lease_seconds=settings.lease_seconds,
        renew_seconds=settings.renew_seconds,
    )
