"""Callbacks that wait for a user to join a channel, each until its own deadline."""

import asyncio
import time
from collections.abc import Callable

from gateway.presence.records import Membership

OnDone = Callable[[bool], None]
"""Gets whether the user has joined in time. It must not raise."""

_SWEEP_SECONDS = 0.05
"""How late a deadline may be noticed."""


class JoinWaiters:
    """One timer checks all deadlines; it runs only while somebody waits."""

    def __init__(self) -> None:
        self._waiting: dict[Membership, list[tuple[float, OnDone]]] = {}
        """The deadline of each, by the monotonic clock."""
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    @property
    def has_timer(self) -> bool:
        return self._timer is not None

    def add(self, membership: Membership, deadline_seconds: float, on_done: OnDone) -> None:
        """Call back once: with True when the user joins, or with False after the deadline."""
        deadline = time.monotonic() + deadline_seconds
        self._waiting.setdefault(membership, []).append((deadline, on_done))
        if self._timer is None:
            self._sweep_later()

    def joined(self, membership: Membership) -> None:
        """Call back all who wait for this user in this channel."""
        for _, on_done in self._waiting.pop(membership, ()):
            on_done(True)

    def _sweep_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = time.monotonic()
        late: list[OnDone] = []
        for membership, waiting in list(self._waiting.items()):
            if any(deadline <= now for deadline, _ in waiting):
                late += [on_done for deadline, on_done in waiting if deadline <= now]
                in_time = [each for each in waiting if each[0] > now]
                if in_time:
                    self._waiting[membership] = in_time
                else:
                    del self._waiting[membership]
        if self._waiting:
            self._sweep_later()
        for on_done in late:
            on_done(False)
