"""Waking the relay at a commit, so that it need not poll the database."""

import asyncio

from sqlalchemy import event
from sqlalchemy.orm import Session

from shared.sql.database import Sessions
from shared.sql.outbox.table import APPENDED


def wake_after_commit(sessions: Sessions) -> asyncio.Event:
    """An event that is set whenever one of these sessions has committed outbox rows.

    Call it once, before sessions are made. Rows of other processes don't set it.
    """
    wake = asyncio.Event()

    class WakingSession(Session):
        """Its own class, so that the hook is for this database only."""

    def after_commit(session: Session) -> None:
        if session.in_nested_transaction():
            return  # only a savepoint was released: nobody else sees the rows yet
        if session.info.pop(APPENDED, False):
            wake.set()

    event.listen(WakingSession, "after_commit", after_commit)
    sessions.configure(sync_session_class=WakingSession)
    return wake
