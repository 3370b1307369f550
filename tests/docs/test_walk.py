"""The walks through the code are taken: what they say is called is called, in their order."""

import importlib
import re
import sys
from collections.abc import Generator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from types import FrameType

import pytest

from hubbub_client.nats.client import Bus
from tests.gateway.chatting import a_gateway, a_room

ROOT = Path(__file__).resolve().parents[2]
STOP = re.compile(r"`([a-z_]+(?:/[a-z_]+)*\.py):([A-Za-z_.]+)`")
MOST_STOPS = 9
CLIENT = "clients/python/src/"

Stop = tuple[str, str]


def _walks() -> dict[str, list[Stop]]:
    """The stops of each walk's numbered list."""
    walks = {}
    for section in (ROOT / "docs/walk.md").read_text().split("\n## ")[1:]:
        heading, _, text = section.partition("\n")
        numbered, *_ = re.split(r"\n\n(?![0-9 ])", text.strip())
        walks[heading] = STOP.findall(numbered)
    return walks


def _every_stop() -> list[Stop]:
    return STOP.findall((ROOT / "docs/walk.md").read_text())


@pytest.mark.parametrize(("file", "name"), _every_stop())
def test_every_stop_of_the_walks_exists(file: str, name: str) -> None:
    assert (ROOT / file).is_file()
    name_of_module = file.removeprefix(CLIENT).removesuffix(".py").replace("/", ".")
    module = importlib.import_module(name_of_module)
    assert callable(reduce(getattr, name.split("."), module))


@pytest.mark.parametrize("walk", _walks())
def test_no_walk_is_longer_than_a_reader_follows(walk: str) -> None:
    text = (ROOT / "docs/walk.md").read_text().partition(f"## {walk}")[2].partition("\n## ")[0]
    assert 0 < len(re.findall(r"^[0-9]+\. ", text, re.MULTILINE)) <= MOST_STOPS


async def test_a_message_takes_the_walks_in_and_out_as_they_are_written(
    nats_url: str, bus: Bus
) -> None:
    walk_in, walk_out, *_ = _walks().values()
    async with a_gateway(nats_url) as gateway, gateway.tab(1, "Ann", a_room()) as ann:
        with calls_of({*walk_in, *walk_out}) as made:
            await ann.send(type="message", body="hi", id="1")
            await ann.until("message", body="hi")
            await ann.until("ack")

    for walk in (walk_in, walk_out):
        taken = [stop for stop in made if stop in walk]
        assert list(dict.fromkeys(taken)) == [stop for stop in walk if stop in taken]
        assert {name for _, name in walk} - {name for _, name in taken} <= {"Sequencer"}, (
            "what is written was called; a class stands for what is not needed today"
        )


@contextmanager
def calls_of(stops: set[Stop]) -> Generator[list[Stop]]:
    """The calls of these functions during the body, in their order."""
    made: list[Stop] = []

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            code = frame.f_code
            if code.co_filename.startswith(str(ROOT)):
                stop = (code.co_filename.removeprefix(f"{ROOT}/"), code.co_qualname)
                if stop in stops:
                    made.append(stop)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield made
    finally:
        sys.setprofile(before)
