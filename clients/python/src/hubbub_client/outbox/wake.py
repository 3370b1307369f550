"""Waking the relay at a commit, so that it need not poll the database."""

import asyncio
from contextlib import suppress
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker

from hubbub_client.outbox.append import APPENDED

_WAKES = "outbox_wakes"
"""In ``session.info``: what to call when rows are committed."""


def wake_after_commit(
    sessions: async_sessionmaker[AsyncSession] | sessionmaker[Any],
) -> asyncio.Event:
    """An event that is set whenever one of these sessions has committed outbox rows.

    Call it once, in the relay's event loop and before sessions are made; they may be used in other
    threads and loops. Rows of other processes don't set it.
    """
    woken, loop = asyncio.Event(), asyncio.get_running_loop()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(woken.set)

    info = sessions.kw.get("info") or {}
    sessions.configure(info={**info, _WAKES: (*info.get(_WAKES, ()), wake)})
    event.listen(Session, "after_commit", _after_commit)  # once, however often it is called
    return woken


def _after_commit(session: Session) -> None:
    if session.in_nested_transaction():
        return  # only a savepoint was released: nobody else sees the rows yet
    if session.info.pop(APPENDED, False):
        for wake in session.info.get(_WAKES, ()):
            wake()
