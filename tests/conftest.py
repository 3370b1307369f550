"""The parts that every test may ask for, and how many are run side by side."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

BYTECODE = Path(__file__).parent.parent / ".pytest_cache" / "bytecode"
UNINSTALLED = Path(__file__).parent / "fixtures" / "uninstalled"
WORKERS_PER_CORE = 2
"""A test waits for most of its time."""
START_PROCESSES = {"hubbub", "system"}
"""Folders of tests, most of which start some."""

if sys.dont_write_bytecode:
    # Each of the many processes that tests start would compile all that it imports, which takes
    # longer than all else it does. So keep that, but not beside the sources.
    sys.dont_write_bytecode = False
    sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"] = str(BYTECODE)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# For the processes that tests start.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(UNINSTALLED), os.environ.get("PYTHONPATH")])
)

# How long an example takes says how busy the machine is, and nothing of what is tested.
settings.register_profile("timeless", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("timeless")

pytest_plugins = [
    "tests.fixtures.nats",
    "tests.fixtures.databases",
    "tests.fixtures.migrated_databases",
    "tests.fixtures.small_disk",
]


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """All tests are run by several workers; those that somebody names, by this process."""
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return 0
    return WORKERS_PER_CORE * (os.cpu_count() or 1)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that take longest come first, or a worker would be busy with one when all is done."""
    items.sort(key=lambda item: START_PROCESSES.isdisjoint(item.path.parts))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Frames of a client have a random mask, and workers have to agree on the tests' names."""
    return argname if isinstance(val, bytes) and not val.isascii() else None


def pytest_itemcollected(item: pytest.Item) -> None:
    """Whoever looks at one standing system, or one browser, is run by one worker."""
    for fixture in {"standing", "browser"} & set(getattr(item, "fixturenames", ())):
        item.add_marker(pytest.mark.xdist_group(f"{item.path.stem}: {fixture}"))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
