"""Whose turn it is to have a password hashed: addresses in turn, signing in before the rest."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from enum import Enum, auto

from shared.contracts.errors import Unavailable


class TooBusy(Unavailable):
    """All threads that hash passwords are taken, and so are the places before them."""

    code = "too_busy"
    retry_after_seconds = 1

    def __init__(self) -> None:
        super().__init__("too many are signing in at once; try again in a moment")


class Lane(Enum):
    """What a password is hashed for."""

    SIGNING_IN = auto()
    REGISTERING = auto()
    """Leaves a slot to those who sign in, where there is more than one."""


class _Waiting:
    """Who waits in one lane: of each address its own, in the order of the addresses' turns."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self.count = 0

    def longest(self) -> tuple[str, int]:
        address = max(self._of, key=self.of, default="")
        return address, self.of(address)

    def of(self, address: str) -> int:
        return len(self._of.get(address, ()))

    def add(self, address: str, turn: asyncio.Future[None]) -> None:
        self._of.setdefault(address, deque()).append(turn)
        self.count += 1

    def remove(self, address: str, turn: asyncio.Future[None]) -> None:
        """Take it out, unless that was done between its end and now."""
        if turn in self._of.get(address, ()):
            self._of[address].remove(turn)
            self._removed(address)

    def next(self) -> asyncio.Future[None]:
        """The first of the address that was not served for longest."""
        address = next(iter(self._of))
        turn = self._of[address].popleft()
        self._of.move_to_end(address)
        self._removed(address)
        return turn

    def give_up_last(self, address: str) -> None:
        turn = self._of[address].pop()
        self._removed(address)
        if not turn.done():
            turn.set_exception(TooBusy())

    def _removed(self, address: str) -> None:
        self.count -= 1
        if not self._of[address]:
            del self._of[address]


class Turns:
    """So many at a time, and a bounded number who wait; whoever comes then is told at once."""

    def __init__(self, slots: int, *, max_waiting: int, wait_seconds: float) -> None:
        """
        Args:
            max_waiting: In each lane. In a full one, who comes takes the last place of the
                address that has most of them, or none.
        """
        self._free = slots
        self._registering = max(1, slots - 1)  # how many more may
        self._max_waiting = max_waiting
        self._wait_seconds = wait_seconds
        self._waiting = {lane: _Waiting() for lane in Lane}

    def refuse_if_full(self, lane: Lane, address: str) -> None:
        """Tell who would get no place, before any work is done for them.

        Raises:
            TooBusy: they would get none.
        """
        waiting = self._waiting[lane]
        if waiting.count >= self._max_waiting and not self._may_displace(waiting, address):
            raise TooBusy

    @asynccontextmanager
    async def turn(self, lane: Lane, address: str) -> AsyncGenerator[None]:
        """Wait for a slot, and have it until the end of the body.

        Raises:
            TooBusy: there is no place to wait, or no slot came free in time.
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
        turn = asyncio.get_running_loop().create_future()
        waiting.add(address, turn)
        try:
            async with asyncio.timeout(self._wait_seconds):
                await turn
        except TimeoutError as error:
            self._leave(lane, address, turn)
            raise TooBusy from error
        except asyncio.CancelledError:
            self._leave(lane, address, turn)
            raise

    def _leave(self, lane: Lane, address: str, turn: asyncio.Future[None]) -> None:
        """Give up, maybe in the very moment in which it was given the slot, or its place away."""
        if turn.cancelled():
            self._waiting[lane].remove(address, turn)
        elif turn.exception() is None:
            self._end(lane)

    @staticmethod
    def _may_displace(waiting: _Waiting, address: str) -> bool:
        return waiting.of(address) + 1 < waiting.longest()[1]

    def _may_begin(self, lane: Lane) -> bool:
        return self._free > 0 and (lane is Lane.SIGNING_IN or self._registering > 0)

    def _begin(self, lane: Lane) -> None:
        self._free -= 1
        if lane is Lane.REGISTERING:
            self._registering -= 1

    def _end(self, lane: Lane) -> None:
        self._free += 1
        if lane is Lane.REGISTERING:
            self._registering += 1
        for each in Lane:
            while self._waiting[each].count and self._may_begin(each):
                turn = self._waiting[each].next()
                if not turn.done():
                    self._begin(each)
                    turn.set_result(None)
