"""What pytest finds by itself where hubbub-client is installed."""

import pytest

from hubbub_client.recorder import Recorder


@pytest.fixture
def hubbub_recorder() -> Recorder:
    """Give its `hubbub` or `sync_hubbub` to the application; it keeps what is published."""
    return Recorder()
