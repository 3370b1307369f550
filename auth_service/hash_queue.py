"""The queue before the threads that hash passwords: fair between addresses, sign-ins first."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from enum import Enum, auto

from hubbub_client.contracts.errors import Unavailable


class TooBusy(Unavailable):
    """All threads that hash passwords are taken, and the queue is full."""

    code = "too_busy"
    retry_after_seconds = 1

    def __init__(self) -> None:
        super().__init__("too many are signing in at once; try again in a moment")


class Lane(Enum):
    """What a password is hashed for; each lane has its own queue."""

    SIGNING_IN = auto()
    REGISTERING = auto()
    """Leaves one slot to sign-ins, if there are several."""


class _Waiting:
    """The waiters of one lane: a queue for each address, the address to be served next first."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self.count = 0

    def longest(self) -> tuple[str, int]:
        address = max(self._of, key=self.of, default="")
        return address, self.of(address)

    def of(self, address: str) -> int:
        return len(self._of.get(address, ()))

    def add(self, address: str, waiter: asyncio.Future[None]) -> None:
        self._of.setdefault(address, deque()).append(waiter)
        self.count += 1

    def remove(self, address: str, waiter: asyncio.Future[None]) -> None:
        """Take it out, if it is still there."""
        if waiter in self._of.get(address, ()):
            self._of[address].remove(waiter)
            self._removed(address)

    def next(self) -> asyncio.Future[None]:
        """Take the first waiter of the address that was served longest ago."""
        address = next(iter(self._of))
        waiter = self._of[address].popleft()
        self._of.move_to_end(address)
        self._removed(address)
        return waiter

    def give_up_last(self, address: str) -> None:
        waiter = self._of[address].pop()
        self._removed(address)
        if not waiter.done():
            waiter.set_exception(TooBusy())

    def _removed(self, address: str) -> None:
        self.count -= 1
        if not self._of[address]:
            del self._of[address]


class HashQueue:
    """A bounded number of slots, and a bounded number of waiters."""

    def __init__(self, slots: int, *, max_waiting: int, wait_seconds: float) -> None:
        """
        Args:
            max_waiting: In each lane. In a full one a newcomer replaces the last waiter of the
                address with the most, if its own address then has fewer; else it is refused.
        """
        self._free = slots
        self._free_to_register = max(1, slots - 1)
        self._max_waiting = max_waiting
        self._wait_seconds = wait_seconds
        self._waiting = {lane: _Waiting() for lane in Lane}

    def refuse_if_full(self, lane: Lane, address: str) -> None:
        """Refuse before any work is done.

        Raises:
            TooBusy: `slot` would raise it at once.
        """
        waiting = self._waiting[lane]
        if waiting.count >= self._max_waiting and not self._may_displace(waiting, address):
            raise TooBusy

    @asynccontextmanager
    async def slot(self, lane: Lane, address: str) -> AsyncGenerator[None]:
        """Wait for a slot, and hold it until the end of the body.

        Raises:
            TooBusy: the queue is full, or no slot came free in time.
        """
        if self._may_begin(lane):
            self._begin(lane)
        else:
            await self._wait(lane, address)
        try:
            yield
        finally:
            self._end(lane)

    async def _wait(self, lane: Lane, address: str) -> None:
        waiting = self._waiting[lane]
        self.refuse_if_full(lane, address)
        if waiting.count >= self._max_waiting:
            waiting.give_up_last(waiting.longest()[0])
        waiter = asyncio.get_running_loop().create_future()
        waiting.add(address, waiter)
        try:
            async with asyncio.timeout(self._wait_seconds):
                await waiter
        except TimeoutError as error:
            self._leave(lane, address, waiter)
            raise TooBusy from error
        except asyncio.CancelledError:
            self._leave(lane, address, waiter)
            raise

    def _leave(self, lane: Lane, address: str, waiter: asyncio.Future[None]) -> None:
        """Stop waiting. It may just have been given a slot, or been replaced."""
        if waiter.cancelled():
            self._waiting[lane].remove(address, waiter)
        elif waiter.exception() is None:
            self._end(lane)

    @staticmethod
    def _may_displace(waiting: _Waiting, address: str) -> bool:
        return waiting.of(address) + 1 < waiting.longest()[1]

    def _may_begin(self, lane: Lane) -> bool:
        return self._free > 0 and (lane is Lane.SIGNING_IN or self._free_to_register > 0)

    def _begin(self, lane: Lane) -> None:
        self._free -= 1
        if lane is Lane.REGISTERING:
            self._free_to_register -= 1

    def _end(self, lane: Lane) -> None:
        self._free += 1
        if lane is Lane.REGISTERING:
            self._free_to_register += 1
        for each in Lane:
            while self._waiting[each].count and self._may_begin(each):
                waiter = self._waiting[each].next()
                if not waiter.done():
                    self._begin(each)
                    waiter.set_result(None)
