"""Publications of the whole cluster, given to those who listen on this gateway."""

from gateway.channels.registry import ConnectionManager, for_each
from gateway.metrics import GatewayMetrics
from shared.contracts.channels import owner_of
from shared.contracts.ids import ChannelName
from shared.contracts.publications import BadPublication


class Fanout:
    """What the feed calls."""

    def __init__(self, manager: ConnectionManager, metrics: GatewayMetrics) -> None:
        self._manager = manager
        self._metrics = metrics

    def deliver(self, channel: ChannelName, offset: int, payload: bytes) -> None:
        """Give a publication to the channel's listeners; it is encoded only if there are any."""
        owner = owner_of(channel)
        try:
            if owner is None:
                reached = self._manager.broadcast(channel, offset, payload)
            else:
                reached = self._manager.send_to_user(owner, offset, payload)
        except BadPublication as bad:
            self._metrics.unreadable(offset, str(bad))
        else:
            self._metrics.deliveries.inc(reached)

    def start_over(self, reason: str) -> None:
        """The feed's position has jumped: there is a hole for everybody here.

        Args:
            reason: A `gateway.streams.feed.Reason`.
        """
        for_each(self._manager.connections(), lambda member: member.start_over(reason))
