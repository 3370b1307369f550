import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
import psutil
import pytest
from structlog.testing import capture_logs

from hubbub.children import Child
from hubbub.errors import CommandFailed
from shared.runtime.backoff import Backoff
from shared.runtime.process import running
from tests.system.processes import is_gone, until

ENV = dict(os.environ)
QUICK = Backoff(first_seconds=0.01, longest_seconds=0.05)

OBEDIENT = "import sys, time; from hubbub.lifeline import stop_with_stdin; stop_with_stdin()\n"
TELLING = "from hubbub.errors import CommandFailed; from hubbub.lifeline import telling_parent"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"

PARENT = """
import sys
from hubbub.children import Child
from shared.runtime.process import run
import os

child = Child("c", [sys.executable, "-c", sys.argv[1]], dict(os.environ))
run(child.run())
"""


async def soon(ask: Callable[[], object]) -> None:
    """Wait for the condition without blocking the loop."""
    await anyio.to_thread.run_sync(until, ask)


def script(told: Path, then: str = "") -> str:
    """A child that writes down its pid, in one step, and then lives on."""
    tell = f"import os; f={str(told)!r}; open(f+'.new','w').write(str(os.getpid()))"
    return f"{OBEDIENT}{tell}; os.rename(f+'.new', f)\n{then}\ntime.sleep(60)"


def pid_in(told: Path) -> int:
    return int(told.read_text()) if told.exists() else 0


async def test_a_killed_child_is_started_again(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    child = Child("c", [sys.executable, "-c", script(told)], ENV, backoff=QUICK)

    async with running(child.run):
        await soon(lambda: pid_in(told))
        first = pid_in(told)
        os.kill(first, signal.SIGKILL)
        await soon(lambda: pid_in(told) != first)

        assert child.pid == pid_in(told)


async def test_a_child_that_keeps_dying_is_tried_again_ever_more_slowly_and_told_of(
    tmp_path: Path,
) -> None:
    tries = tmp_path / "tries"
    script = f"open({str(tries)!r}, 'a').write('x'); print('for this reason'); raise SystemExit(3)"
    backoff = Backoff(first_seconds=0.01, longest_seconds=0.04)
    child = Child("c", [sys.executable, "-S", "-c", script], ENV, backoff=backoff)

    with capture_logs() as logs:
        async with running(child.run):
            await soon(lambda: tries.exists() and len(tries.read_text()) >= 5)

    ends = [line for line in logs if line["event"] != "child_started"][:4]
    assert [(line["event"], line["again_in_seconds"]) for line in ends] == [
        ("child_ended", 0.01),
        ("child_ended", 0.02),
        ("child_keeps_ending", 0.04),
        ("child_keeps_ending", 0.04),
    ]
    assert {(line["child"], line["status"], line["said"]) for line in ends} == {
        ("c", 3, "for this reason")
    }


@pytest.mark.parametrize("lived_before", [False, True])
async def test_a_child_that_cannot_serve_ends_us_unless_it_has_served(
    lived_before: bool, tmp_path: Path
) -> None:
    tries = tmp_path / "tries"
    tries.write_text("x" if lived_before else "")
    script = (
        f"tries = open({str(tries)!r}, 'r+'); lives = len(tries.read()); tries.write('x')\n"
        f"{TELLING}\n"
        "if lives == 1: raise SystemExit(0)\n"
        "with telling_parent(): raise CommandFailed('there is no key')"
    )
    child = Child("c", [sys.executable, "-c", script], ENV, backoff=QUICK)

    with anyio.fail_after(90):
        if lived_before:
            async with running(child.run):
                await soon(lambda: len(tries.read_text()) >= 4)
        else:
            with pytest.RaisesGroup(pytest.RaisesExc(CommandFailed, match="^there is no key$")):
                async with running(child.run):
                    await anyio.sleep_forever()


def test_pauses_double_up_to_a_limit_and_shorten_after_a_steady_life() -> None:
    backoff = Backoff(first_seconds=1, longest_seconds=3, steady_seconds=10)

    pauses = [backoff.pause_after(lived) for lived in (0, 0, 0, 0, 10, 0)]

    assert pauses == [1, 2, 3, 3, 1, 2]


async def test_a_child_ends_with_the_body_and_nothing_is_left(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    child = Child("c", [sys.executable, "-c", script(told)], ENV)

    async with running(child.run):
        await soon(lambda: pid_in(told))

    assert not psutil.pid_exists(pid_in(told))
    assert child.pid is None


async def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    command = [sys.executable, "-c", script(told, then=STUBBORN)]
    child = Child("c", command, ENV, stop_seconds=0.2)

    async with running(child.run):
        await soon(lambda: pid_in(told))

    assert not psutil.pid_exists(pid_in(told))


async def test_a_child_that_was_asked_to_stop_is_not_started_again(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    child = Child("c", [sys.executable, "-c", script(told)], ENV, backoff=QUICK)

    async with anyio.create_task_group() as group:
        group.start_soon(child.run)
        await soon(lambda: pid_in(told))
        child.ask_to_stop()  # the group ends, so `run` has ended by itself

    assert child.pid is None


async def test_the_terminals_signals_do_not_reach_a_child(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    child = Child("c", [sys.executable, "-c", script(told)], ENV)

    async with running(child.run):
        await soon(lambda: pid_in(told))

        assert os.getpgid(pid_in(told)) != os.getpgid(0)


def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    with subprocess.Popen([sys.executable, "-c", PARENT, script(told)]) as parent:
        try:
            until(lambda: pid_in(told))
            child = psutil.Process(pid_in(told))
        finally:
            parent.kill()

    until(lambda: is_gone(child))
