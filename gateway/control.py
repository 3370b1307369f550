"""Revocations on the control stream, and the connections that they end."""

import structlog

from gateway.channels.registry import ConnectionManager, Member, for_each
from gateway.errors import EndReason
from hubbub_client.contracts.ids import user_id_to_json
from hubbub_client.jetstream.api import StoredMessage
from shared.tokens.revocations import Revocations

log = structlog.get_logger(__name__)


class Control:
    """Hears of every revocation, from the stream's start."""

    def __init__(self, revocations: Revocations, manager: ConnectionManager) -> None:
        self._revocations = revocations
        self._manager = manager

    def heed(self, message: StoredMessage) -> None:
        """Apply a message of the control stream: later sign-ins fail, open connections end."""
        revocation = self._revocations.apply(message.payload, stored_at=message.stored_at)
        if revocation is None:
            return
        if revocation.session_id is not None:
            members = self._manager.connections_of_session(revocation.session_id)
        else:
            members = self._manager.connections_of(revocation.user_id)
        ended = 0

        def end_if_covered(member: Member) -> None:
            nonlocal ended
            if revocation.covers(member.claims):
                member.connection.cut(EndReason.SESSION_ENDED)
                ended += 1

        for_each(members, end_if_covered)
        if ended:
            log.info(
                "session_ended", user_id=user_id_to_json(revocation.user_id), connections=ended
            )
