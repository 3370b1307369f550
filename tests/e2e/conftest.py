"""One system for all end-to-end tests: in containers where an engine answers, else processes.

``HUBBUB_E2E=containers`` demands containers: then the run fails if an end-to-end test was
skipped or ran outside of them. ``HUBBUB_E2E=processes`` does without, engine or not.
"""

import asyncio
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.browser.conftest import browser as browser
from tests.e2e.evidence import Evidence, assert_nothing_leaked
from tests.e2e.promises import say_the_first_words
from tests.e2e.stack import Stack, keep_logs
from tests.fixtures.databases import docker_answers

SECONDS_FOR_ONE_TEST = 360
"""The first one starts the system, too, in containers maybe builds it before."""
WANTED = os.environ.get("HUBBUB_E2E", "")

evidence_key = pytest.StashKey[Evidence]()
failed_key = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[evidence_key] = Evidence(containers_demanded=WANTED == "containers")


def pytest_itemcollected(item: pytest.Item) -> None:
    item.add_marker(pytest.mark.timeout(SECONDS_FOR_ONE_TEST), append=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[assignment]
    item.stash[failed_key] = item.stash.get(failed_key, False) or report.failed
    item.config.stash[evidence_key].note(report)
    return report  # type: ignore[return-value]


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.stash[evidence_key].shortfall():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    evidence = config.stash[evidence_key]
    for fact in evidence.facts:
        terminalreporter.write_line(f"end to end: {fact}")
    if shortfall := evidence.shortfall():
        terminalreporter.write_line(f"end to end, not as demanded: {shortfall}", red=True)


@pytest.fixture(scope="session")
def logs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the logs of all parts go when a test fails."""
    named = os.environ.get("E2E_OUT")
    return Path(named) if named else tmp_path_factory.mktemp("e2e-logs")


@pytest.fixture(scope="package")
def shared_stack(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    logs_folder: Path,
) -> Iterator[Stack]:
    """The system of this run. Tests ask for `stack`, which heals it after each of them."""
    with ExitStack() as resources:
        stack: Stack
        if WANTED == "containers" or (WANTED != "processes" and docker_answers()):
            from tests.e2e.containers import container_stack

            stack = resources.enter_context(container_stack(logs_folder))
        else:
            from tests.e2e.local import local_stack

            postgres = request.getfixturevalue("postgres")
            home = tmp_path_factory.mktemp("e2e")
            stack = resources.enter_context(local_stack(home, postgres))
        with ThreadPoolExecutor(1) as thread:  # a loop of its own, whatever else runs here
            thread.submit(asyncio.run, say_the_first_words(stack)).result()
        seconds = time.monotonic() - stack.began
        facts = request.config.stash[evidence_key].facts
        facts += [stack.describe(), f"{seconds:.1f} s from its start to the first chat message"]
        yield stack
        try:
            assert_nothing_leaked(stack)
        except AssertionError:
            keep_logs(stack.logs(), logs_folder / "at-the-end")
            raise


@pytest.fixture
def stack(
    request: pytest.FixtureRequest, shared_stack: Stack, logs_folder: Path
) -> Iterator[Stack]:
    """The system, healthy; what a test does to it is undone."""
    request.config.stash[evidence_key].ran_on(request.node.nodeid, shared_stack)
    yield shared_stack
    if request.node.stash.get(failed_key, False):
        keep_logs(shared_stack.logs(), logs_folder / request.node.name)
    shared_stack.heal()
