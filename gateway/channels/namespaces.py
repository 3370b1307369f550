"""Namespaces: which channels there are, and who may do what in them. Pure."""

from collections.abc import Mapping

from gateway.channels.options import DEFAULT_NAMESPACES, Namespace, Who
from shared.contracts.channels import PERSONAL, PRIVATE, namespace_of, personal_channel
from shared.contracts.ids import ChannelName, UserId

_USERS = Who.USERS  # as a member of the enum it costs half a microsecond each time
PERSONAL_OPTIONS = Namespace(subscribe=Who.SERVICES)  # its owner has it without asking


class Namespaces:
    """Answers every question of the form "may this user do that there?"."""

    def __init__(self, options: Mapping[str, Namespace] = DEFAULT_NAMESPACES) -> None:
        self._options = dict(options)

    def options_of(self, channel: ChannelName) -> Namespace | None:
        """The options of the channel, or None if there is no such namespace."""
        if channel.startswith(PERSONAL):
            return PERSONAL_OPTIONS
        return self._options.get(namespace_of(channel))

    def may_subscribe(self, channel: ChannelName, user_id: UserId) -> bool:
        """Whether the user may listen, with no subscription token."""
        if channel.startswith(PERSONAL):
            return channel == personal_channel(user_id)
        if channel.startswith(PRIVATE):
            return False
        options = self.options_of(channel)
        return options is not None and options.subscribe is _USERS

    def may_publish(self, channel: ChannelName, user_id: UserId) -> bool:
        """Whether the user may publish over a connection that listens to the channel."""
        options = self.options_of(channel)
        return (
            options is not None
            and options.publish is _USERS
            and self.may_subscribe(channel, user_id)
        )
