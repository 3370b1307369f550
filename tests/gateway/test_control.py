"""What a revocation does to the connections that are here."""

from gateway.channels.registry import ConnectionManager
from gateway.control import Control
from gateway.errors import EndReason
from gateway.transport.coalescer import WriteCoalescer
from gateway.transport.frames import Frame
from shared.contracts.ids import SessionId, UserId
from shared.jetstream.api import StoredMessage
from shared.tokens.access_tokens import Claims
from shared.tokens.revocations import SESSION_REVOKED_SUBJECT, Revocations, SessionRevoked
from tests.gateway.sinks import ASink

ANN = UserId("1")


class AMember:
    protocol = "chat"
    user_id = ANN

    def __init__(self, session_id: str) -> None:
        self.claims = Claims(ANN, "Ann", SessionId(session_id), issued_at=0, expires_at=1)
        self.connection = ASink()
        self.cuts: list[EndReason] = []
        self.fails = False
        self.abandoned = False

    def cut(self, reason: EndReason) -> None:
        if self.fails:
            raise RuntimeError("a member that fails")
        self.cuts.append(reason)

    def abandon(self, error: Exception, event: str) -> None:
        self.abandoned = True

    def close(self, reason: EndReason) -> None:
        raise NotImplementedError

    def end_with_token(self) -> None: ...

    def start_over(self, reason: str) -> None:
        raise NotImplementedError

    def offer(self, frame: Frame, offset: int) -> None:
        raise NotImplementedError

    def send(self, frame: Frame) -> None:
        raise NotImplementedError


def end_session(session_id: str, *members: AMember) -> None:
    manager = ConnectionManager(WriteCoalescer(lambda _flush: None))
    for member in members:
        manager.connect(member)
    revoked = SessionRevoked(session_id=SessionId(session_id), user_id=ANN)
    Control(Revocations(max_token_seconds=60), manager).heed(
        StoredMessage(
            1, SESSION_REVOKED_SUBJECT, revoked.model_dump_json().encode(), b"NATS/1.0\r\n\r\n"
        )
    )


def test_one_connection_that_cannot_be_cut_spares_none_behind_it() -> None:
    tabs = [AMember("ended"), AMember("ended"), AMember("ended")]
    tabs[1].fails = True

    end_session("ended", *tabs)

    assert [tab.cuts for tab in tabs] == [[EndReason.SESSION_ENDED], [], [EndReason.SESSION_ENDED]]
    assert [tab.abandoned for tab in tabs] == [False, True, False]


def test_the_connections_of_an_ended_session_are_cut_and_no_others() -> None:
    tabs, other = [AMember("ended"), AMember("ended")], AMember("another")

    end_session("ended", *tabs, other)

    assert [tab.cuts for tab in tabs] == [[EndReason.SESSION_ENDED], [EndReason.SESSION_ENDED]]
    assert other.cuts == []
