import os

import pytest

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
