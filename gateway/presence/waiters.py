"""Callbacks that wait for somebody to be in a channel, each until its own deadline."""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from gateway.presence.records import Membership
from hubbub_client.contracts.ids import ConnectionId

OnDone = Callable[[bool], None]
"""Gets whether they came in time. It must not raise."""

_SWEEP_SECONDS = 0.05
"""How late a deadline may be noticed."""


class _Waiter(NamedTuple):
    deadline: float
    """By the monotonic clock."""
    connection: ConnectionId | None
    """None for any of the user's."""
    on_done: OnDone


class JoinWaiters:
    """One timer checks all deadlines; it runs only while somebody waits."""

    def __init__(self, is_there: Callable[[Membership, ConnectionId | None], bool]) -> None:
        """
        Args:
            is_there: Whether the user is in the channel with this connection; None for any.
        """
        self._is_there = is_there
        self._waiting: dict[Membership, list[_Waiter]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    @property
    def has_timer(self) -> bool:
        return self._timer is not None

    def add(
        self,
        membership: Membership,
        deadline_seconds: float,
        on_done: OnDone,
        connection: ConnectionId | None = None,
    ) -> None:
        """Call back once: with True if they are there or when they come, or with False after the
        deadline."""
        if self._is_there(membership, connection):
            on_done(True)
            return
        deadline = time.monotonic() + deadline_seconds
        self._waiting.setdefault(membership, []).append(_Waiter(deadline, connection, on_done))
        if self._timer is None:
            self._sweep_later()

    def look(self, memberships: Iterable[Membership] | None = None) -> None:
        """Call back all who wait for one of these and find them there; None for all."""
        for membership in list(self._waiting) if memberships is None else memberships:
            for waiter in self._take(membership, self._has_come):
                waiter.on_done(True)

    def _has_come(self, membership: Membership, waiter: _Waiter) -> bool:
        return self._is_there(membership, waiter.connection)

    def _take(
        self, membership: Membership, is_over: Callable[[Membership, _Waiter], bool]
    ) -> list[_Waiter]:
        """Remove those whose wait is over, and return them."""
        waiting = self._waiting.get(membership)
        if waiting is None:
            return []
        over: list[_Waiter] = []
        still: list[_Waiter] = []
        for waiter in waiting:
            (over if is_over(membership, waiter) else still).append(waiter)
        if not still:
            del self._waiting[membership]
        elif over:
            self._waiting[membership] = still
        return over

    def _sweep_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = time.monotonic()
        late = [
            waiter
            for membership in list(self._waiting)
            for waiter in self._take(membership, lambda _membership, each: each.deadline <= now)
        ]
        if self._waiting:
            self._sweep_later()
        for waiter in late:
            waiter.on_done(False)
