import os
from collections.abc import Iterator
from pathlib import Path

import pytest

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
