"""Namespaces: which channels there are, and who may do what in them. Pure."""

from collections.abc import Mapping

from gateway.settings import DEFAULT_NAMESPACES, Namespace, Who
from shared.channels import BadChannelName, namespace_of, parse_channel, personal_channel
from shared.ids import ChannelName, UserId

PERSONAL = "#"
PRIVATE = "$"


class BadNamespaces(ValueError):
    """The configuration of the namespaces contradicts itself; the process must not start."""


PERSONAL_OPTIONS = Namespace(subscribe=Who.SERVICES)  # its owner has it without asking


class Namespaces:
    """Answers every question of the form "may this user do that there?"."""

    def __init__(self, options: Mapping[str, Namespace] = DEFAULT_NAMESPACES) -> None:
        """
        Raises:
            BadNamespaces: a name that no channel can begin with.
        """
        for name in options:
            if not _can_begin_a_channel(name):
                raise BadNamespaces(f"no channel begins with {name!r}")
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
        return options is not None and options.subscribe is Who.USERS

    def may_publish(self, channel: ChannelName, user_id: UserId) -> bool:
        """Whether the user may publish over a connection that listens to the channel."""
        options = self.options_of(channel)
        return (
            options is not None
            and options.publish is Who.USERS
            and self.may_subscribe(channel, user_id)
        )


def _can_begin_a_channel(name: str) -> bool:
    try:
        channel = parse_channel(f"{name}:x")
    except BadChannelName:
        return False
    reserved = (PERSONAL, PRIVATE)
    return bool(name) and namespace_of(channel) == name and not name.startswith(reserved)
