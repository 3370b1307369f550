"""The count of connections against a plain dictionary, and what counts as one address or user."""

import resource
from collections import Counter

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from gateway.errors import EndReason
from gateway.session.access import Occupancy, UserLimit, connection_limit
from hubbub_client.contracts.ids import UserId
from shared.web.addresses import network_of
from shared.web.open_files import allow_open_files, open_files_limit

ADDRESSES = st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", None])
ANN = UserId("1")


class Doors(RuleBasedStateMachine):
    """Connections come and go in any order, some of them more than once."""

    connections = Bundle("connections")

    @initialize(most=st.integers(0, 5), most_per_address=st.integers(0, 3))
    def begin(self, most: int, most_per_address: int) -> None:
        self.most, self.most_per_address = most, most_per_address
        self.occupancy = Occupancy(max_connections=most, max_per_address=most_per_address)
        self.inside: dict[object, str | None] = {}

    @rule(target=connections, address=ADDRESSES)
    def come(self, address: str | None) -> object:
        connection = object()
        self._enter(connection, address)
        return connection

    @rule(connection=connections, address=ADDRESSES)
    def come_again(self, connection: object, address: str | None) -> None:
        self._enter(connection, address)

    @rule(connection=connections)
    def go(self, connection: object) -> None:
        self.occupancy.leave(connection)
        self.inside.pop(connection, None)

    def _enter(self, connection: object, address: str | None) -> None:
        refusal = self.occupancy.enter(connection, address)
        assert refusal == self._expected(connection, address)
        if refusal is None:
            self.inside.setdefault(connection, address)

    def _expected(self, connection: object, address: str | None) -> EndReason | None:
        if connection in self.inside:
            return None
        if self.most and len(self.inside) >= self.most:
            return EndReason.FULL
        from_there = [each for each in self.inside.values() if each and _same(each, address)]
        if self.most_per_address and address and len(from_there) >= self.most_per_address:
            return EndReason.TOO_MANY_OF_ADDRESS
        return None

    @invariant()
    def nothing_is_counted_that_is_not_inside(self) -> None:
        assert len(self.occupancy) == len(self.inside)
        counted = Counter(network_of(each) or each for each in self.inside.values() if each)
        assert self.occupancy._from_address == (counted if self.most_per_address else {})


def _same(one: str, other: str | None) -> bool:
    return other is not None and (one == other or (":" in one and ":" in other))


TestDoors = Doors.TestCase


@pytest.mark.parametrize(
    ("most", "here", "elsewhere", "reached"),
    [(3, 2, 0, False), (3, 2, 1, True), (3, 0, 3, True), (3, 3, 0, True), (3, 0, 2, False),
     (0, 99, 99, False)],
)  # fmt: skip
def test_a_users_connections_count_wherever_they_are(
    most: int, here: int, elsewhere: int, reached: bool
) -> None:
    limit = UserLimit(most, here=lambda _user: here, elsewhere=lambda _user: elsewhere)

    assert limit.is_reached(ANN) is reached


@pytest.mark.parametrize(
    ("wanted", "sockets", "room"),
    [(0, 1000, 900), (100, 1000, 100), (5000, 1000, 900), (5000, None, 5000), (0, None, 0)],
)
def test_there_is_room_for_no_more_than_there_may_be_sockets(
    wanted: int, sockets: int | None, room: int
) -> None:
    assert connection_limit(wanted, sockets=sockets) == room


def test_the_limit_of_open_files_is_raised_to_what_may_be_had() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        assert open_files_limit() == 256

        allowed = allow_open_files()

        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
        assert allowed == open_files_limit() == (None if hard == resource.RLIM_INFINITY else hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
