"""What the gateway reads from its environment: every limit, with its unit in its name."""

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from gateway.channels.options import DEFAULT_NAMESPACES, Namespace, PersonalOptions
from gateway.proxy_settings import ProxySettings
from hubbub_client.contracts.channels import ROOMS, BadChannelName, namespace_of, parse_channel
from shared.runtime.issuer_settings import ends_with_space
from shared.runtime.listening import CannotListen
from shared.runtime.settings import (
    ENDS_WITH_SPACE,
    Amount,
    Bytes,
    Count,
    Grace,
    Rate,
    Seconds,
    ServiceSettings,
)
from shared.web.addresses import is_loopback

_STORED = Namespace()


def _is_no_open_door(key: SecretStr) -> SecretStr:
    if not key.get_secret_value():
        raise ValueError("empty: anybody could use /api; leave it unset to switch that off")
    return key


class GatewaySettings(ServiceSettings, ProxySettings):
    """One gateway; those of one system have to agree on presence and crowds."""

    model_config = SettingsConfigDict(env_prefix="HUBBUB_GATEWAY_")

    renamed: ClassVar[Mapping[str, str]] = {
        "HUBBUB_GATEWAY_HISTORY_MAX_PUBLICATIONS": "HUBBUB_GATEWAY_HISTORY_MAX_PAGE"
    }

    api_key: Annotated[SecretStr, AfterValidator(_is_no_open_door)] | None = Field(
        None, validation_alias="HUBBUB_API_KEY"
    )
    """Who may use `/api`; without one it is off."""
    namespaces: Mapping[str, Namespace] = DEFAULT_NAMESPACES
    """The options of each namespace, as JSON."""
    without_namespace: Namespace | None = None
    """The options of channels without a namespace; without them there are no such channels."""
    personal_channel: PersonalOptions = PersonalOptions()
    """The options of everybody's personal channel."""
    allow_anonymous_connect_without_token: bool = False
    """Centrifuge clients only; each channel says what such a user may do."""
    client_insecure: bool = False
    """Centrifuge clients may come without a token and do what only lacks permission. For
    development: a gateway that does not listen on loopback does not start with it."""

    # How many connections; 0 is no limit.
    max_connections: Amount = 0
    """Of this process; 0 is as many as nine tenths of the sockets that it may have."""
    max_connections_per_address: Amount = 0
    """Of this process, before they show a token too. Only where we see who connects: a proxy
    has to be named by `forwarded_allow_ips`. Of IPv6, 64 bits are one address."""
    max_connections_per_user: Amount = 0
    """On all gateways, as far as presence tells of them. Not of the anonymous user, who is many."""

    # One connection.
    channel_limit: Count = 128
    """Subscriptions of one Centrifuge client."""
    max_frame_bytes: Bytes = 64 * 1024
    """Of one message of a tab; longer ones end the connection with 1009."""
    total_unfinished_bytes: Bytes = 64 * 1024 * 1024
    """Of messages that have begun to come, of all tabs; with more, whose message began to come
    first is closed with 1013."""
    message_seconds: Seconds = 30
    """For a message that comes in pieces to be whole; then the tab is closed with 1013."""
    bare_frames_per_second: Count = 200
    """Of one tab, signed in or not: pings, pongs, parts of messages, and pieces of frames of a few
    bytes. With more it is closed with 1008."""
    max_pending_bytes: Bytes = 256 * 1024
    """Written to a tab and not taken by it; with more it is behind, and caught up later, and its
    commands wait."""
    total_pending_bytes: Bytes = 256 * 1024 * 1024
    """Of all slow tabs together; with more, all of them are behind."""
    lag_seconds: Seconds = 15
    """For a slow tab to catch up; then it is closed with 1013."""
    max_waiting_commands: Count = 64
    """Of one tab, and 4 until it is signed in; with more of them nothing further is read of it."""
    commands_per_second: Rate = 50
    """Of one tab, in the long run; 0 is no limit. Refused ones are answered `rate_limited`."""
    command_burst: Count = 100
    """Of one tab, at once."""
    max_rate_refusals: Amount = 200
    """More, without a pause of `command_burst / commands_per_second`, end the connection."""
    ephemeral_per_second: Rate = 60
    """Publications of one Centrifuge client that are not stored, in the long run, apart from other
    commands; 0 is no limit."""
    ephemeral_burst: Count = 120
    """Of one client, at once."""
    user_units_per_second: Rate = 100
    """Of one user at this process, on all connections and in the long run; 0 is no limit."""
    user_burst: Count = 2000
    """In units; of one user, at once."""
    user_ephemeral_units_per_second: Rate = 200
    """Of one user, in what is not stored; 0 is no limit."""
    user_ephemeral_burst: Count = 1000
    """In units; of one user, at once, in what is not stored."""
    max_user_buckets: Count = 50_000
    """Of users who did something within `2 * user_burst / user_units_per_second`, 0.2 KiB each;
    with more, those who did it longest ago begin anew."""
    auth_seconds: Seconds = 10
    """For the token to come, if it is not in the handshake."""
    clock_settle_seconds: Seconds = 10
    """For a jump of the system's clock to stand, before open connections end by it."""
    websocket_compression: bool = False
    """Of messages, with clients that offer permessage-deflate: fewer bytes for more CPU, some
    10 µs a publication and as much a command."""
    ping_seconds: Seconds = 20
    """Below the 60 s after which common proxies give an idle connection up."""
    pong_seconds: Seconds = 13
    """From a ping until something has to come; with both, a silent tab is gone in 35 s."""
    close_seconds: Seconds = 5
    """From a close to the end of the socket, whatever the tab does."""

    # The end of the process.
    drain_seconds: Seconds = 20
    """For all connections to leave; keep it below the orchestrator's kill timeout."""
    drain_closes_per_second: Count = 500
    """More, if ``drain_seconds`` would not suffice."""

    # Publications.
    publish_seconds: Seconds = 5
    """For one publication to be stored, with all its tries."""
    max_waiting_publish_bytes: Bytes = 64 * 1024 * 1024
    """Of all tabs and services, published faster than it is stored, 1 KiB each beside the payload;
    more is answered `unavailable` at once."""
    replay_limit: Count = 1000
    """Publications that a returning tab may have missed; with more it is sent a `reset`."""
    recovery_max_publication_limit: Count = 300
    """The same of one channel, for an SDK's client, which gets them in one reply."""
    recovery_max_bytes: Bytes = 768 * 1024
    """Of one such reply, of all its channels; what does not fit is not recovered. Some clients
    read no message of more than 1 MiB."""
    history_max_publication_limit: Count = 300
    """Of one page of history that a client reads; further ones it reads with `since`."""
    history_max_page: Count = 1000
    """Of one page that a service reads."""
    recovery_cache_bytes: Bytes = 16 * 1024 * 1024
    """For what was read for those who come back, and as much for what it is on the wire: kept for
    10 s, so that it is read and encoded once for many."""
    ring_messages: Count = 10_000
    ring_bytes: Bytes = 64 * 1024 * 1024
    """Of recent publications, kept so that few who come back have to ask the stream."""

    # Presence.
    presence_wait_seconds: Grace = 1
    """How long `welcome` waits for the tab's own entry."""
    presence_grace_seconds: Grace = 5
    """From a user's last tab to the leave; hides the reload of a page."""
    lease_seconds: Annotated[Seconds, Field(ge=1)] = 10
    """A gateway that did not renew its lease for as long is gone."""
    renew_seconds: Seconds = 3
    crowd_size: Count = 200
    """Users of a channel, past which only their count is pushed."""
    crowd_resume: Count = 160
    """With fewer, joined and left are pushed again."""
    crowd_seconds: Seconds = 1
    """Between two counts of a crowd."""

    @field_validator("namespaces")
    @classmethod
    def _channels_begin_with_them(
        cls, namespaces: Mapping[str, Namespace]
    ) -> Mapping[str, Namespace]:
        for name in namespaces:
            if not _can_begin_a_channel(name):
                raise ValueError(f"no channel begins with {name!r}")
        if namespaces.get(ROOMS, _STORED).ephemeral:
            raise ValueError(f"{ROOMS}: what is said in rooms of /ws/chat is stored")
        return namespaces

    @model_validator(mode="after")
    def _leases_and_crowds_work(self) -> Self:
        if 2 * self.renew_seconds > self.lease_seconds:
            raise ValueError(
                "HUBBUB_GATEWAY_LEASE_SECONDS is less than two times HUBBUB_GATEWAY_RENEW_SECONDS"
            )
        if self.crowd_resume >= self.crowd_size:
            raise ValueError("HUBBUB_GATEWAY_CROWD_RESUME is not below HUBBUB_GATEWAY_CROWD_SIZE")
        return self

    @model_validator(mode="after")
    def _there_is_an_application_to_ask(self) -> Self:
        for place, options in self._options_by_place():
            for option, url in (
                ("subscribe_proxy_enabled", self.proxy_subscribe_url),
                ("publish_proxy_enabled", self.proxy_publish_url),
            ):
                if getattr(options, option) and url is None:
                    kind = option.partition("_")[0].upper()
                    raise ValueError(f"{place}: {option} needs HUBBUB_GATEWAY_PROXY_{kind}_URL")
        return self

    @property
    def warnings(self) -> list[str]:
        warnings = [*super().warnings, *self.proxy_warnings()]
        if self.api_key is not None and ends_with_space(self.api_key):
            warnings.append(f"HUBBUB_API_KEY {ENDS_WITH_SPACE}")
        if self.client_insecure:
            warnings.append(
                "HUBBUB_GATEWAY_CLIENT_INSECURE is set: who reaches the gateway may do nearly all"
            )
        return warnings + [
            f"{place}: says what is allowed, and nothing of subscribing: any signed-in user may,"
            " unless allow_subscribe_for_client is false"
            for place, options in self._options_by_place()
            if _is_silent_on_subscribing(options)
        ]

    def check_host(self, host: str) -> None:
        """Let nobody but this machine in where permissions are off.

        Raises:
            CannotListen: others can reach the host.
        """
        if self.client_insecure and not is_loopback(host):
            raise CannotListen(
                f"HUBBUB_GATEWAY_CLIENT_INSECURE: only with --host on loopback, not on {host}"
            )

    def _options_by_place(self) -> Iterator[tuple[str, Namespace]]:
        for name, options in self.namespaces.items():
            yield f"HUBBUB_GATEWAY_NAMESPACES: {name}", options
        if self.without_namespace is not None:
            yield "HUBBUB_GATEWAY_WITHOUT_NAMESPACE", self.without_namespace


def _is_silent_on_subscribing(options: Namespace) -> bool:
    """As in a configuration of Centrifugo's, where nobody may subscribe unless that is allowed."""
    said = options.model_fields_set
    allows = any(option.startswith("allow_") for option in said)
    return allows and said.isdisjoint(
        {"subscribe", "allow_subscribe_for_client", "subscribe_proxy_enabled"}
    )


def _can_begin_a_channel(name: str) -> bool:
    try:
        channel = parse_channel(f"{name}:x")
    except BadChannelName:
        return False
    marked = name.startswith(("#", "$"))  # personal channels, and those that need a token
    return bool(name) and not marked and namespace_of(channel) == name
