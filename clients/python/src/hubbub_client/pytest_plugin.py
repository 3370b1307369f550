"""What pytest finds by itself where hubbub-client is installed."""

import os
import shlex
from collections.abc import Iterator

import pytest

from hubbub_client.recorder import Recorder
from hubbub_client.running import NotStarted, RunningHubbub, Server, running_server

COMMAND = "hubbub_command"
SETTINGS = "hubbub_env"
START_SECONDS = "hubbub_start_seconds"
DEFAULT_COMMAND = "hubbub"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(COMMAND, "How it starts; HUBBUB_COMMAND overrules it", "string", DEFAULT_COMMAND)
    parser.addini(SETTINGS, "Its settings, as NAME=value", "linelist", [])
    parser.addini(START_SECONDS, "Until it has to be ready", "string", "60")


@pytest.fixture
def hubbub_recorder() -> Recorder:
    """Give its `hubbub` or `sync_hubbub` to the application; it keeps what is published."""
    return Recorder()


@pytest.fixture(scope="session")
def hubbub_server(pytestconfig: pytest.Config) -> Iterator[Server]:
    """One for all tests of this process; each worker of xdist has its own."""
    command = os.environ.get("HUBBUB_COMMAND") or pytestconfig.getini(COMMAND)  # noqa: TID251
    settings = dict(map(_as_setting, pytestconfig.getini(SETTINGS)))
    seconds = float(pytestconfig.getini(START_SECONDS))
    try:
        with running_server(shlex.split(command), settings, start_seconds=seconds) as server:
            yield server
    except NotStarted as error:
        raise _failed(error) from None


@pytest.fixture
def hubbub(hubbub_server: Server) -> Iterator[RunningHubbub]:
    """A real system, and what was published on it since the test began."""
    try:
        hubbub_server.check()
    except NotStarted as error:
        raise _failed(error) from None
    running = RunningHubbub(hubbub_server)
    yield running
    running.close()


def _failed(error: NotStarted) -> BaseException:
    return pytest.fail.Exception(str(error), pytrace=False)


def _as_setting(line: str) -> tuple[str, str]:
    name, is_set, value = line.partition("=")
    if not is_set:
        raise pytest.UsageError(f"{SETTINGS}: {line} is not NAME=value")
    return name, value
