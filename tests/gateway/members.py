"""Members of the registry with no session above them: they only remember what they were told."""

from gateway.channels.connection import Frame
from gateway.channels.registry import Member
from hubbub_client.contracts.ids import UserId
from shared.tokens.claims import Claims, SessionId
from tests.gateway.connections import AConnection


class AMember(Member):
    connection: AConnection

    def __init__(
        self,
        user_id: UserId,
        session_id: SessionId | None = None,
        *,
        connection: AConnection | None = None,
    ) -> None:
        super().__init__(connection or AConnection(), claims_of(user_id, session_id))
        self.behind_from: list[int | None] = []
        """The offset up to which it had everything, each time that it fell behind."""
        self.started_over: list[str] = []

    def fall_behind(self, delivered_offset: int | None = None) -> None:
        self.behind_from.append(delivered_offset)

    def start_over(self, reason: str) -> None:
        self.started_over.append(reason)


class AFailingMember(AMember):
    """Raises whatever it is given."""

    def send(self, frame: Frame) -> None:
        raise RuntimeError("a member that fails")

    def offer(self, frame: Frame, offset: int) -> None:
        raise RuntimeError("a member that fails")

    def start_over(self, reason: str) -> None:
        raise RuntimeError("a member that fails")


def claims_of(user_id: UserId, session_id: SessionId | None = None) -> Claims:
    return Claims(user_id, "Ann", session_id, issued_at=0, expires_at=1)
