import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.system.processes import Processes, processes_in

FOLDER_NAMES = (
    "jürgen",
    "feature%2Fx",
    "what?",
    "a 'b' \"c\" $HOME #1; {x} `y` \\n",
    "two\nlines",
    os.fsdecode(b"j\xfcrgen"),  # by a system of another encoding
)


@pytest.fixture(params=FOLDER_NAMES, ids=ascii)
def folder_name(request: pytest.FixtureRequest) -> str:
    """A name that people, or their machines, give to folders."""
    return str(request.param)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    home = tmp_path / "logs"
    home.mkdir()
    with processes_in(home) as started:
        yield started


@pytest.fixture
def bare_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For commands that run in this process: without settings, and what they do to it is undone."""
    for name in [each for each in os.environ if each.startswith("HUBBUB_")]:
        monkeypatch.delenv(name)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    log, said_by, level = structlog.get_config(), logging.root.handlers[:], logging.root.level
    mask = os.umask(0o077)
    yield
    os.umask(mask)
    structlog.configure(**log)
    logging.root.handlers[:] = said_by
    logging.root.setLevel(level)
    for number, handler in handlers.items():
        signal.signal(number, handler)
