"""What was promised about messages, held against what tabs have received."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import chain

from tests.e2e.people import Person, a_room, sign_up
from tests.e2e.reach import connections
from tests.e2e.stack import Stack
from tests.system.tab import Tab, open_tab, persistent_tab

AWAY_SECONDS = 40.0
"""For a failure to be noticed by everybody, and for the way back."""
POLL_SECONDS = 0.05
PAUSE_SECONDS = 0.05
"""Between two lines of the same person."""


@asynccontextmanager
async def tabs_of(stack: Stack, people: Iterable[Person], room: str) -> AsyncGenerator[list[Tab]]:
    """A tab of each, through the edge, that comes back by itself."""
    async with AsyncExitStack() as tabs:
        yield [
            await tabs.enter_async_context(
                persistent_tab(stack.ws_url, token=person.token, room=room)
            )
            for person in people
        ]


@asynccontextmanager
async def passing_tabs_of(
    stack: Stack, people: Iterable[Person], room: str
) -> AsyncGenerator[list[Tab]]:
    """A tab of each, through the edge, that stays away once it was closed."""
    async with AsyncExitStack() as tabs:
        yield [
            await tabs.enter_async_context(open_tab(stack.ws_url, person.token, room))
            for person in people
        ]


async def say_the_first_words(stack: Stack) -> None:
    """A first user signs up, and a message of theirs is stored."""
    first = await sign_up(stack, "First")
    async with passing_tabs_of(stack, [first], a_room()) as [tab]:
        await tab.say("first", "Is anybody here?")


async def talk(tab: Tab, name: str, *, until: asyncio.Event) -> list[str]:
    """Say numbered lines, each until it is acked, up to the first after the event."""
    said: list[str] = []
    while not until.is_set():
        body = f"{name}-{len(said)}"
        await tab.say(body, body, seconds=AWAY_SECONDS)
        said.append(body)
        await asyncio.sleep(PAUSE_SECONDS)
    return said


def a_later_line(tab: Tab, name: str, *, ahead: int = 10) -> set[str]:
    """What ``name`` will say so many lines after the last one that the tab has."""
    return {f"{name}-{sum(body.startswith(f'{name}-') for body in tab.bodies()) + ahead}"}


@asynccontextmanager
async def everybody_talking(tabs: Sequence[Tab]) -> AsyncGenerator[list[list[str]]]:
    """All tabs talk while the body runs; then the list holds what each had acked."""
    enough = asyncio.Event()
    said: list[list[str]] = []
    async with asyncio.TaskGroup() as group:
        talks = [
            group.create_task(talk(tab, f"u{number}", until=enough))
            for number, tab in enumerate(tabs)
        ]
        try:
            yield said
        finally:
            enough.set()
    said += [each.result() for each in talks]


async def assert_each_once_in_order(tabs: Sequence[Tab], said: Sequence[Sequence[str]]) -> None:
    """Every tab has every acked message, once, in the stream's order and in its sayer's."""
    everything = set(chain(*said))
    for tab in tabs:
        await tab.until_has(everything)
        bodies = tab.bodies()
        offsets = [frame["offset"] for frame in tab.of_type("message")]
        assert sorted(bodies) == sorted(everything), "each once"
        assert offsets == sorted(set(offsets)), "in the stream's order"
        for mine in said:
            assert [body for body in bodies if body in set(mine)] == list(mine), "in each one's"
        assert not tab.of_type("reset")


async def eventually(condition: Callable[[], bool], *, seconds: float = AWAY_SECONDS) -> None:
    """Ask again and again, in a thread: the answer may need a command in a container."""
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)


def present(tab: Tab) -> set[int]:
    """Who is in the room, as the tab's user sees it."""
    here: set[int] = set()
    for frame in tab.frames:
        if frame["type"] in ("welcome", "users"):
            here = {user["user_id"] for user in frame["users"]}
        elif frame["type"] == "user_joined":
            here.add(frame["user_id"])
        elif frame["type"] == "user_left":
            here.discard(frame["user_id"])
    return here


async def until_present(tab: Tab, users: set[int], *, seconds: float) -> None:
    """Return when these and no others are in the room, as the tab's user sees it."""
    await eventually(lambda: present(tab) == users, seconds=seconds)


async def until_nobody_is_connected(stack: Stack) -> None:
    """The tabs of the test before may still be going, and weigh in where new ones are sent."""
    await eventually(lambda: not any(map(connections, stack.gateways)))
