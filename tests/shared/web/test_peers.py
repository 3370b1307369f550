import pytest
from structlog.testing import capture_logs
from uvicorn.server import ServerState

from shared.web.http_protocol import end_late_peers
from shared.web.peers import Peer, PeerLimits, Peers


class Silent(Peer):
    """A peer that only remembers what became of it."""

    def __init__(self, name: str, gone: list[str]) -> None:
        self._name = name
        self._gone = gone

    def end_if_late(self, now: float) -> None: ...

    def give_way(self) -> None:
        self._gone.append(self._name)


@pytest.fixture
def gone() -> list[str]:
    return []


def a_peer(name: str, gone: list[str]) -> Silent:
    return Silent(name, gone)


def test_who_waits_longest_for_a_request_of_his_gives_way_to_a_newcomer(gone: list[str]) -> None:
    peers = Peers(max_sockets=3)
    a, b, c, d, e = (a_peer(name, gone) for name in "abcde")
    for each in (a, b, c):
        assert peers.enter(each)

    peers.wait_for(a, idle=False)  # began to send
    assert peers.enter(d)
    peers.serve(c)
    assert peers.enter(e)

    assert gone == ["b", "a"]
    assert set(peers) == {c, d, e}


def test_nobody_gives_way_who_is_being_answered(gone: list[str]) -> None:
    peers = Peers(max_sockets=2)
    a, b, c = (a_peer(name, gone) for name in "abc")
    for each in (a, b):
        peers.enter(each)
        peers.serve(each)

    assert not peers.enter(c)
    assert (gone, len(peers)) == ([], 2)

    peers.wait_for(b, idle=True)
    assert peers.enter(c)
    assert gone == ["b"]


def test_one_line_a_second_tells_how_many_gave_way_and_how_many_found_no_room(
    gone: list[str],
) -> None:
    peers = Peers(max_sockets=1)
    state = ServerState()
    state.connections = peers  # type: ignore[assignment]
    peers.enter(a_peer("a", gone))
    answered = a_peer("b", gone)
    peers.enter(answered)
    peers.serve(answered)
    peers.enter(a_peer("c", gone))

    with capture_logs() as logs:
        end_late_peers(state, 0.0)
        end_late_peers(state, 1.0)

    [line] = logs
    assert (line["event"], line["gave_way"], line["turned_away"]) == ("sockets_all_taken", 1, 1)


def test_who_is_being_answered_and_does_not_read_gives_way_after_who_is_waited_for(
    gone: list[str],
) -> None:
    peers = Peers(max_sockets=3)
    a, b, c, d, e, f = (a_peer(name, gone) for name in "abcdef")
    for each in (a, b, c):
        peers.enter(each)
    for each in (b, a):
        peers.serve(each)
        peers.leaves_unread(each)

    for each in (d, e):
        assert peers.enter(each)
        peers.serve(each)
    peers.has_read(a)

    assert not peers.enter(f)
    assert gone == ["c", "b"]


def test_sockets_that_became_something_else_count_too(gone: list[str]) -> None:
    peers, elsewhere = Peers(max_sockets=3), 3
    peers.elsewhere = lambda: elsewhere
    a = a_peer("a", gone)

    assert not peers.enter(a)
    elsewhere = 2
    assert peers.enter(a)


def test_of_the_idle_the_longest_idle_ends_when_there_are_too_many(gone: list[str]) -> None:
    peers = Peers(max_idle=2)
    a, b, c, d = (a_peer(name, gone) for name in "abcd")
    for each in (a, b, c, d):
        peers.enter(each)
    for each in (a, b):
        peers.wait_for(each, idle=True)
    peers.wait_for(a, idle=False)
    for each in (c, a):
        peers.wait_for(each, idle=True)

    assert gone == ["b"], "d has not had an answer yet, and is another limit's business"


def test_the_idle_are_ended_and_nobody_else(gone: list[str]) -> None:
    peers = Peers()
    idle, new, asking, answered = (a_peer(name, gone) for name in ("idle", "new", "asking", "not"))
    for each in (idle, new, asking, answered):
        peers.enter(each)
    for each in (idle, asking, answered):
        peers.wait_for(each, idle=True)
    peers.wait_for(asking, idle=False)
    peers.serve(answered)

    peers.end_idle()

    assert gone == ["idle"]
    assert set(peers) == {new, asking, answered}


def test_who_is_gone_is_forgotten(gone: list[str]) -> None:
    peers = Peers(max_sockets=1, max_idle=1)
    a, b = a_peer("a", gone), a_peer("b", gone)
    peers.enter(a)
    peers.discard(a)
    peers.wait_for(a, idle=True)

    assert peers.enter(b)
    assert (gone, set(peers)) == ([], {b})


@pytest.mark.parametrize(
    ("open_files", "sockets"), [(1024, 896), (256, 128), (200, 100), (None, None)]
)
def test_some_of_the_files_are_never_for_who_connects(
    open_files: int | None, sockets: int | None
) -> None:
    assert PeerLimits(reserved_files=128).max_sockets_of(open_files) == sockets
