"""Namespaces: which channels there are, and who may do what in them. Pure."""

from collections.abc import Mapping
from functools import lru_cache

from gateway.channels.options import DEFAULT_NAMESPACES, Allowed, Namespace, PersonalOptions
from gateway.errors import Refusal
from hubbub_client.contracts.channels import PERSONAL, PRIVATE, namespace_of, owner_of
from hubbub_client.contracts.ids import ANONYMOUS, ChannelName, UserId

_PERSONAL_OPTIONS = PersonalOptions()
_KNOWN_CHANNELS = 4096
"""Each is asked about several times in a row, at a connect or a publication; at most 2 MiB."""


class Namespaces:
    """Answers every question of the form "why may this user not do that there?"; None if so."""

    def __init__(
        self,
        options: Mapping[str, Namespace] = DEFAULT_NAMESPACES,
        *,
        without_namespace: Namespace | None = None,
        personal: Namespace = _PERSONAL_OPTIONS,
        insecure: bool = False,
    ) -> None:
        """
        Args:
            without_namespace: Of the channels without one; None if there are no such channels.
            personal: Of everybody's personal channel.
            insecure: Whether everybody may do what is only not permitted. Channels that are for
                somebody stay theirs.
        """
        self._options = dict(options)
        if without_namespace is not None:
            self._options[""] = without_namespace
        self._personal = personal
        self._insecure = insecure
        self.find = lru_cache(_KNOWN_CHANNELS)(self._find)
        """The options of a channel, or why there can be none of that name."""

    def options_of(self, channel: ChannelName) -> Namespace | None:
        """The options of the channel, or None if there is no such namespace."""
        if channel.startswith(PERSONAL):
            return self._personal if owner_of(channel) else None
        return self._options.get(namespace_of(channel))

    def _find(self, channel: ChannelName) -> Namespace | Refusal:
        options = self.options_of(channel)
        if options is None:
            return Refusal.UNKNOWN_CHANNEL
        return options if options.takes_name(channel) else Refusal.BAD_REQUEST

    def why_not_take(self, channel: ChannelName, data: object) -> Refusal | None:
        """Why the channel takes no such data, whoever publishes it."""
        options = self.find(channel)
        if isinstance(options, Refusal):
            return options
        return None if options.takes_data(data) else Refusal.BAD_REQUEST

    def is_ephemeral(self, channel: ChannelName) -> bool:
        """Whether nothing that is published there is stored."""
        options = self.options_of(channel)
        return options is not None and options.ephemeral

    def why_not_pass_on(self, channel: ChannelName) -> Refusal | None:
        """Why nothing can be published there without being stored."""
        options = self.find(channel)
        if isinstance(options, Refusal):
            return options
        # Whoever is sent patches would take it for what the next one is of.
        return Refusal.NOT_AVAILABLE if options.allowed_delta_types else None

    def why_not_subscribe(
        self, channel: ChannelName, user_id: UserId, *, by_token: bool = False
    ) -> Refusal | None:
        """Why the user may not listen.

        Args:
            by_token: Whether a token says that they shall, or the application; who asks has
                checked it.
        """
        options = self.find(channel)
        if isinstance(options, Refusal):
            return options
        if not _is_for(channel, user_id, options, is_invited=by_token):
            return Refusal.PERMISSION_DENIED
        is_anonymous = user_id == ANONYMOUS
        may = (
            by_token
            or channel.startswith(PERSONAL)
            or options.users_listed_in(channel) is not None
            or (self._insecure and not options.subscribe_proxy_enabled)
            or (
                options.allow_subscribe_for_client
                and not options.subscribe_proxy_enabled
                and (not is_anonymous or options.allow_subscribe_for_anonymous)
            )
        )
        return None if may else Refusal.PERMISSION_DENIED

    def lets_application_subscribe(self, channel: ChannelName) -> bool:
        """Whether the application is asked who may listen, where nobody brings a token."""
        options = self.find(channel)
        return (
            isinstance(options, Namespace)
            and options.subscribe_proxy_enabled
            and not channel.startswith(PRIVATE)
            and options.users_listed_in(channel) is None
        )

    def lets_application_publish(self, channel: ChannelName) -> bool:
        """Whether the application is asked what may be published over a connection."""
        options = self.find(channel)
        return isinstance(options, Namespace) and options.publish_proxy_enabled

    def why_not_publish(
        self,
        channel: ChannelName,
        user_id: UserId,
        *,
        is_subscribed: bool,
        by_application: bool = False,
    ) -> Refusal | None:
        """Why the user may not publish over a connection; any subscription of it counts.

        Args:
            by_application: Whether the application lets them; or would have to say that, if this
                finds nothing against it.
        """
        options = self.find(channel)
        if isinstance(options, Refusal):
            return options
        if by_application or options.publish_proxy_enabled:
            is_for = _is_for(channel, user_id, options, is_invited=is_subscribed)
            return None if by_application and is_for else Refusal.PERMISSION_DENIED
        return self._why_not(channel, user_id, options, options.publishing, is_subscribed)

    def why_not_see_presence(
        self, channel: ChannelName, user_id: UserId, *, is_subscribed: bool
    ) -> Refusal | None:
        """Why the user may not see who is there, or hear who comes and goes."""
        options = self.find(channel)
        if isinstance(options, Refusal):
            return options
        if not options.presence:
            return Refusal.NOT_AVAILABLE
        return self._why_not(channel, user_id, options, options.seeing_presence, is_subscribed)

    def why_not_read_history(
        self, channel: ChannelName, user_id: UserId, *, is_subscribed: bool
    ) -> Refusal | None:
        """Why the user may not read what was published."""
        options = self.find(channel)
        if isinstance(options, Refusal):
            return options
        if not options.history:
            return Refusal.NOT_AVAILABLE
        return self._why_not(channel, user_id, options, options.reading_history, is_subscribed)

    def may_be_positioned(self, channel: ChannelName, user_id: UserId) -> bool:
        """Whether a subscriber who asks for it is told where the stream stands."""
        options = self.options_of(channel)
        return options is not None and (
            options.force_positioning
            or options.allow_positioning
            or self._may_read_history(channel, user_id)
        )

    def may_recover(self, channel: ChannelName, user_id: UserId) -> bool:
        """Whether a subscriber who asks for it is sent what it missed."""
        options = self.find(channel)
        return (isinstance(options, Namespace) and options.history) and (
            options.force_recovery
            or options.allow_recovery
            or self._may_read_history(channel, user_id)
        )

    def _may_read_history(self, channel: ChannelName, user_id: UserId) -> bool:
        return self.why_not_read_history(channel, user_id, is_subscribed=True) is None

    def _why_not(
        self,
        channel: ChannelName,
        user_id: UserId,
        options: Namespace,
        allowed: Allowed,
        is_subscribed: bool,
    ) -> Refusal | None:
        if not _is_for(channel, user_id, options, is_invited=is_subscribed):
            return Refusal.PERMISSION_DENIED
        may = allowed.for_client or (allowed.for_subscriber and is_subscribed)
        if user_id == ANONYMOUS:
            may = may and allowed.for_anonymous
        return None if may or self._insecure else Refusal.PERMISSION_DENIED


def _is_for(channel: ChannelName, user_id: UserId, options: Namespace, *, is_invited: bool) -> bool:
    """Whether nothing in the channel's name keeps the user out."""
    if channel.startswith(PERSONAL):
        return owner_of(channel) == user_id
    if is_invited:
        return True
    listed = options.users_listed_in(channel)
    return not channel.startswith(PRIVATE) and (listed is None or user_id in listed)
