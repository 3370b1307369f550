"""The fixture `hubbub` is a real system, on which an application's tests run as on the recorder."""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from pydantic import BaseModel
from websockets.sync.client import connect

from hubbub_client import NotAvailable, Publish
from hubbub_client.pytest_plugin import hubbub as hubbub
from hubbub_client.recorder import Recorder
from hubbub_client.running import RunningHubbub, Server

SECONDS = 20
PYTEST_SECONDS = 100
ASKING = "def test_it(hubbub): pass"
TELLING = """
import os
from pathlib import Path
import psutil
import pytest

@pytest.mark.parametrize("number", range(6))
def test_it(hubbub, worker_id, number):
    hubbub.sync_hubbub.publish("chat:lobby", worker_id)
    assert hubbub.data("chat:lobby") == [worker_id]
    [system] = psutil.Process().children()
    Path(f"{worker_id}-{system.pid}").touch()
"""

KILLING_IT = """
import os
import psutil

def test_it(hubbub):
    [shell] = psutil.Process().children()
    [up] = [each for each in shell.children() if each.children()]
    up.kill()
    os.waitid(os.P_PID, shell.pid, os.WEXITED | os.WNOWAIT)

def test_the_next(hubbub): pass
def test_the_last(hubbub): pass
"""
KILLING_ITSELF = """
from pathlib import Path
import psutil

def test_it(hubbub):
    me = psutil.Process()
    Path("pids").write_text(" ".join(str(each.pid) for each in me.children(recursive=True)))
    me.kill()
"""


class InvoicePaid(BaseModel):
    invoice_id: int


@pytest.fixture(params=["recorder", "real system"])
def either(request: pytest.FixtureRequest) -> Recorder | RunningHubbub:
    name = "hubbub_recorder" if request.param == "recorder" else "hubbub"
    fixture: Recorder | RunningHubbub = request.getfixturevalue(name)
    return fixture


def run_pytest(folder: Path, test: str, *options: str, ini: str = "") -> str:
    """What it prints about a test in a project of its own."""
    (folder / "pytest.ini").write_text(f"[pytest]\n{ini}")
    (folder / "test_it.py").write_text(test)
    # Without the summary at the end: where `CI` is set it repeats all that was said.
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rN", *options]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=PYTEST_SECONDS, check=False
    )
    return done.stdout


def test_a_test_of_an_application_sees_the_same_on_both(either: Recorder | RunningHubbub) -> None:
    either.sync_hubbub.notify(7, InvoicePaid(invoice_id=1), idempotency_key="k")
    either.sync_hubbub.publish("chat:invoices", InvoicePaid(invoice_id=2))
    either.sync_hubbub.publish("chat:invoices", "plain")

    assert either.notifications(7) == [{"event": "invoice_paid", "id": "k", "invoice_id": 1}]
    assert either.data("chat:invoices")[-1] == "plain"
    assert either.events(InvoicePaid, channel="chat:invoices") == [InvoicePaid(invoice_id=2)]
    assert either.data("chat:other") == []


def test_what_an_earlier_test_has_published_is_not_seen(either: Recorder | RunningHubbub) -> None:
    assert either.notifications(7) == []

    either.sync_hubbub.notify(7, InvoicePaid(invoice_id=3), idempotency_key="another")

    assert either.events(InvoicePaid, channel="#7") == [InvoicePaid(invoice_id=3)]


async def test_an_application_that_awaits_is_seen_too(either: Recorder | RunningHubbub) -> None:
    await either.hubbub.publish("chat:awaited", 1)
    await either.hubbub.publish("chat:awaited", 2)

    assert either.data("chat:awaited") == [1, 2]


async def test_it_is_reached_where_the_environment_has_a_proxy(
    hubbub_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    running = RunningHubbub(hubbub_server)

    await running.hubbub.publish("chat:proxied", 1)

    assert running.data("chat:proxied") == [1]
    running.close()


def test_all_of_a_long_history_is_read(hubbub: RunningHubbub) -> None:
    numbers = list(range(1300))
    hubbub.sync_hubbub.publish_many([Publish("chat:long", number) for number in numbers])

    assert hubbub.data("chat:long") == numbers


def test_a_page_connects_with_a_token_and_hears_what_its_user_is_told(
    hubbub: RunningHubbub,
) -> None:
    with connect(hubbub.websocket_url, proxy=None) as page:
        page.send(json.dumps({"id": 1, "connect": {"token": hubbub.token("ann", name="Ann")}}))
        assert "#ann" in json.loads(page.recv(SECONDS))["connect"]["subs"]

        hubbub.sync_hubbub.notify("ann", InvoicePaid(invoice_id=4))

        assert '"invoice_id":4' in page.recv(SECONDS)


def test_what_has_no_history_can_not_be_read(tmp_path: Path) -> None:
    settings = 'hubbub_env = HUBBUB_GATEWAY_NAMESPACES={"bare": {"history": false}}'
    test = "def test_it(hubbub): hubbub.data('bare:x')"

    assert f"{NotAvailable.__name__}: not available" in run_pytest(tmp_path, test, ini=settings)


def test_each_worker_has_a_system_that_is_gone_at_the_end(tmp_path: Path) -> None:
    assert "6 passed" in run_pytest(tmp_path, TELLING, "-n2")

    workers, systems = zip(*(file.name.split("-") for file in tmp_path.glob("gw*")), strict=True)
    assert sorted(workers) == ["gw0", "gw1"]
    assert [pid for pid in systems if psutil.pid_exists(int(pid))] == []


def test_without_a_server_one_line_says_what_to_do(tmp_path: Path) -> None:
    said = run_pytest(tmp_path, ASKING, ini="hubbub_command = /nowhere/hubbub")

    [line] = [each for each in said.splitlines() if each.startswith("there is no")]
    assert line == (
        "there is no `/nowhere/hubbub`: pip install 'hubbub[embedded]', or say in pytest's option"
        " hubbub_command how it is started"
    )
    assert "Traceback" not in said


def test_a_setting_that_has_no_value_is_named(tmp_path: Path) -> None:
    assert "hubbub_env: SECRET is not NAME=value" in run_pytest(
        tmp_path, ASKING, ini="hubbub_env = SECRET"
    )


def test_one_that_ends_at_its_start_shows_what_it_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUBBUB_COMMAND", "sh -c 'echo no room; exit 3'")

    said = run_pytest(tmp_path, ASKING, ini="hubbub_command = /nowhere/hubbub")

    assert "`hubbub up` ended with status 3, and printed:\nno room\n" in said


def test_what_it_printed_is_shown_once_it_has_ended(tmp_path: Path) -> None:
    said = run_pytest(tmp_path, KILLING_IT, "-p", "no:randomly")

    assert said.count("`hubbub up` ended with status 137, and printed:\n") == 2, said
    assert "1 passed, 2 errors" in said
    assert " is ready: http://" in said
    assert "Traceback" not in said


def test_it_ends_with_the_tests_also_if_they_are_killed(tmp_path: Path) -> None:
    run_pytest(tmp_path, KILLING_ITSELF)

    processes = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(processes) > 1
    for pid in processes:
        with suppress(psutil.NoSuchProcess):
            psutil.Process(pid).wait(SECONDS)


def test_one_that_is_not_ready_in_time_is_stopped(tmp_path: Path) -> None:
    options = "hubbub_command = sh -c 'echo $$ > pid; exec sleep 600'\nhubbub_start_seconds = 3"

    said = run_pytest(tmp_path, ASKING, ini=options)

    assert "`hubbub up` is not ready after 3 s, and printed:\nnothing\n" in said
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))
