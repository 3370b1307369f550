"""The parts that every test may ask for, and how many are run side by side."""

import gc
import os
import sys
from collections import Counter
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest
import structlog
from execnet import XSpec
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.fixtures.forked_workers import ForkedWorkers

BYTECODE = Path(__file__).parent / ".pytest_cache" / "bytecode"
UNINSTALLED = Path(__file__).parent / "tests" / "fixtures" / "uninstalled"
WORKERS_PER_CORE = 4
"""A test waits for most of its time."""
MAX_WORKERS = 16
"""Each has servers of its own, and takes half a GB."""
SLOW = {
    "bench", "browser", "django", "examples", "hubbub", "installed", "presence", "sdk", "system",
    "test_real_system.py",
}  # fmt: skip
"""Tests that start processes, or wait for what takes seconds."""
OBJECTS_PER_SEARCH = 20_000
"""So many more objects than before make Python search for garbage: its 700 take a tenth of all."""
END_TO_END = "tests/e2e/"
OF_TESTS = ("HUBBUB_COMMAND", "HUBBUB_E2E", "HUBBUB_TEST_")
"""How the variables begin that are read here."""

if sys.dont_write_bytecode:
    # Each of the many processes that tests start would compile all that it imports, which takes
    # longer than all else it does. So keep that, but not beside the sources.
    sys.dont_write_bytecode = False
    sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"] = str(BYTECODE)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

gc.disable()  # until all is collected: a search for garbage there takes a third of the time

# The processes that tests start refuse what is nobody's setting, and settings are for tests to say.
for name in [each for each in os.environ if each.startswith("HUBBUB_")]:
    if not name.startswith(OF_TESTS):
        del os.environ[name]

# For the processes that tests start.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(UNINSTALLED), os.environ.get("PYTHONPATH")])
)

# A pretty traceback takes a busy machine seconds, in which nothing else goes on in the process.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(
            colors=False, exception_formatter=structlog.dev.plain_traceback
        ),
    ]
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
    return min(WORKERS_PER_CORE * (os.cpu_count() or 1), MAX_WORKERS)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: Sequence[XSpec]) -> None:
    """Workers are forked, by what each takes for the Python that it is to start."""
    workers = ForkedWorkers(config.args)
    config.add_cleanup(workers.close)
    for spec in specs:
        spec.python = workers.python


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What was loaded until now lives as long as the run: no search for garbage looks at it."""
    collected = yield
    gc.freeze()
    gc.set_threshold(OBJECTS_PER_SEARCH, 10, 10)
    gc.enable()
    return collected


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> "FileByFile":
    return FileByFile(config, log)


class FileByFile(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """One worker runs all tests of a file, and has to start only once what they share.

    All end-to-end tests share one system. xdist's own groups are of no effect under pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        return _file_of(nodeid)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that take longest come first, or a worker would be busy with one when all is done."""
    files = Counter(_file_of(item.nodeid) for item in items)
    items.sort(key=lambda item: _turn(_file_of(item.nodeid), files))


def _turn(file: str, files: Counter[str]) -> tuple[int, int]:
    if file == END_TO_END:
        return 0, 0
    is_slow = SLOW & set(Path(file).parts)
    return 1 if is_slow else 2, -files[file]


def _file_of(nodeid: str) -> str:
    """What one worker runs: a file, but that all end-to-end tests count as one."""
    file = nodeid.partition("::")[0]
    return END_TO_END if file.startswith(END_TO_END) else file


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A worker ends if it is to report what is no UTF-8, as half a surrogate pair in a log."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Frames of a client have a random mask, and workers have to agree on the tests' names."""
    return argname if isinstance(val, bytes) and not val.isascii() else None


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
