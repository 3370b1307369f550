"""Make the client that is not awaited from the one that is, so that they never differ.

Usage: uv run --group dev python -m tools.sync_twin
"""

import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "clients/python/src/hubbub_client"
CLIENT = PACKAGE / "client.py"
TWIN = PACKAGE / "sync_client.py"

REPLACED = [
    (
        '"""The client that is awaited. `sync_client.py` is made from it: `just twin`."""',
        '"""The client that is not awaited, made from `client.py`: `just twin`."""',
    ),
    ("class Hubbub:", "class SyncHubbub:"),
    (
        "One object serves a whole application.",
        "All threads may share one, also after a fork.",
    ),
    ("AsyncBaseTransport", "BaseTransport"),
    ("AsyncHttp", "SyncHttp"),
    ("__aenter__", "__enter__"),
    ("__aexit__", "__exit__"),
    ("async def ", "def "),
    ("await ", ""),
]


def twin_of(source: str) -> str:
    """
    Raises:
        ValueError: something that is to be replaced is not there any more.
    """
    for awaited, plain in REPLACED:
        if awaited not in source:
            raise ValueError(f"not in the client: {awaited}")
        source = source.replace(awaited, plain)
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(TWIN), "-"]
    return subprocess.run(command, input=source, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    TWIN.write_text(twin_of(CLIENT.read_text()))
