"""Waking the relay at a commit, so that it need not poll the database."""

import asyncio
import threading
from contextlib import suppress
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker

from hubbub_client.outbox.append import APPENDED


def wake_after_commit(
    sessions: async_sessionmaker[AsyncSession] | sessionmaker[Any],
) -> asyncio.Event:
    """An event that is set whenever one of these sessions has committed outbox rows.

    Call it once, in the relay's event loop and before sessions are made; they may be used in other
    threads. Rows of other processes don't set it.
    """
    wake, loop = asyncio.Event(), asyncio.get_running_loop()
    own_thread = threading.get_ident()

    def after_commit(session: Session) -> None:
        if session.in_nested_transaction():
            return  # only a savepoint was released: nobody else sees the rows yet
        if not session.info.pop(APPENDED, False):
            return
        if threading.get_ident() == own_thread:
            wake.set()
        else:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(wake.set)

    if isinstance(sessions, async_sessionmaker):
        base: type[Session] = sessions.kw.get("sync_session_class", Session)
        # Its own class, so that the hook is for this database only.
        waking = type("WakingSession", (base,), {})
        sessions.configure(sync_session_class=waking)
        event.listen(waking, "after_commit", after_commit)
    else:
        event.listen(sessions, "after_commit", after_commit)
    return wake
