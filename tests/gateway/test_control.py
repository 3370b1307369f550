"""What a revocation does to the connections that are here."""

from gateway.channels.registry import ConnectionManager
from gateway.control import Control
from gateway.errors import EndReason
from gateway.transport.coalescer import FrameBatch, WriteCoalescer
from gateway.transport.frames import Close, Frame
from hubbub_client.contracts.ids import UserId
from hubbub_client.jetstream.api import StoredMessage
from shared.tokens.claims import SessionId
from shared.tokens.revocations import SESSION_REVOKED_SUBJECT, Revocations, SessionRevoked
from tests.gateway.connections import AConnection
from tests.gateway.members import AMember, claims_of

ANN = UserId("1")


class AConnectionThatFails(AConnection):
    def cut(self, reason: EndReason | Close) -> None:
        raise RuntimeError("a connection that fails")


def a_tab(session_id: str, connection: AConnection | None = None) -> AMember:
    """It has something pending, which leaves at the end of the turn."""
    tab = AMember(ANN, SessionId(session_id), connection=connection)
    tab.connection.pending = FrameBatch(None, Frame(b"pending"))
    return tab


def a_manager() -> ConnectionManager:
    return ConnectionManager(WriteCoalescer(lambda _flush: None))


def end_session(session_id: str, *members: AMember) -> None:
    manager = a_manager()
    for member in members:
        manager.connect(member)
    heed_end_of(session_id, manager)


def heed_end_of(session_id: str, manager: ConnectionManager) -> None:
    revoked = SessionRevoked(session_id=SessionId(session_id), user_id=ANN)
    Control(Revocations(max_token_seconds=60), manager).heed(
        StoredMessage(
            1, SESSION_REVOKED_SUBJECT, revoked.model_dump_json().encode(), b"NATS/1.0\r\n\r\n"
        )
    )


def test_one_connection_that_cannot_be_cut_spares_none_behind_it() -> None:
    tabs = [a_tab("ended"), a_tab("ended", AConnectionThatFails()), a_tab("ended")]

    end_session("ended", *tabs)

    closing = [tab.connection.closing for tab in tabs]
    assert closing == [
        EndReason.SESSION_ENDED, EndReason.INTERNAL_ERROR, EndReason.SESSION_ENDED
    ]  # fmt: skip
    assert [len(tab.connection.failures) for tab in tabs] == [0, 1, 0]


def test_the_connections_of_an_ended_session_are_cut_and_no_others() -> None:
    tabs, other = [a_tab("ended"), a_tab("ended")], a_tab("another")

    end_session("ended", *tabs, other)

    for tab in tabs:
        assert tab.connection.closing is EndReason.SESSION_ENDED
        assert tab.connection.sent == [], "what was pending is not for it any more"
    assert other.connection.is_open


def test_who_goes_on_under_another_token_ends_with_the_session_of_that_one() -> None:
    manager, stays, goes = a_manager(), a_tab("ended"), a_tab("another")
    for tab in (stays, goes):
        manager.connect(tab)
    manager.renew(stays, claims_of(ANN, SessionId("another")))
    manager.renew(goes, claims_of(ANN, SessionId("ended")))

    heed_end_of("ended", manager)

    assert stays.connection.is_open
    assert goes.connection.closing is EndReason.SESSION_ENDED
