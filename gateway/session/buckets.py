"""Who pays for what a connection costs."""

from functools import partial

from gateway.channels.registry import Member
from hubbub_client.contracts.ids import ANONYMOUS, UserId
from shared.web.user_rates import UserRates


class Buckets:
    """One of each user, and one of each connection of nobody in particular.

    Such visitors could otherwise spend what all of them have. For the same reason theirs are kept
    apart from those of users, who would lose theirs where there are very many. How many
    connections a visitor may have is for `Occupancy`, by addresses.
    """

    __slots__ = ("_of_connections", "_of_users")

    def __init__(self, *, units_per_second: float, burst: int, max_users: int) -> None:
        """As `UserRates` has it; so many, too, are kept of connections."""
        make = partial(
            UserRates, units_per_second=units_per_second, burst=burst, max_users=max_users
        )
        self._of_users, self._of_connections = make(), make()

    def take(self, member: Member, units: int, now: int) -> int:
        """As `UserRates.take`."""
        if member.user_id == ANONYMOUS:
            return self._of_connections.take(UserId(member.connection.id), units, now)
        return self._of_users.take(member.user_id, units, now)

    def charge(self, member: Member, units: int) -> None:
        """As `UserRates.charge`."""
        if member.user_id == ANONYMOUS:
            self._of_connections.charge(UserId(member.connection.id), units)
        else:
            self._of_users.charge(member.user_id, units)
