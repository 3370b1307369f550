"""The page that shows notifications and does nothing else, in a real browser."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.examples.pages import Example
from tests.fixtures.ports import free_ports
from tests.sdk.javascript import NODE_MODULES
from tests.system.processes import processes_in

pytestmark = pytest.mark.browser

FOLDER = Path(__file__).resolve().parents[2] / "examples/notifications"
README = (FOLDER / "README.md").read_text()
BUNDLE = "centrifuge/dist/centrifuge.js"
FOLLOWING = "You hear what you are told as it happens."
COMMAND_SECONDS = 60


class Notifications(Example):
    def run(self, command: str) -> str:
        """What a command of the README prints."""
        words = shlex.split(command.removeprefix("uv run hubbub "))
        done = subprocess.run(
            [sys.executable, "-m", "hubbub", *words, "--data", str(self.processes.home / "data")],
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=True,
        )
        return done.stdout


@pytest.fixture(scope="module")
def example(sdk: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notifications]:
    folder = tmp_path_factory.mktemp("notifications")
    hubbub_port, port = free_ports(), free_ports()
    page = (FOLDER / "index.html").read_text().replace(":8000/", f":{hubbub_port}/")
    (folder / "index.html").write_text(page)
    (folder / "node_modules" / BUNDLE).parent.mkdir(parents=True)
    shutil.copy(NODE_MODULES / BUNDLE, folder / "node_modules" / BUNDLE)
    [options] = re.findall(r"python -m http.server 8080 (.*) --directory", README)
    with processes_in(tmp_path_factory.mktemp("logs")) as processes:
        hubbub = processes.up(port=hubbub_port)
        site = processes.start(
            *(str(port), *options.split(), "--directory", str(folder)),
            env={"PYTHONUNBUFFERED": "1"},
            port=port,
            module="http.server",
        )
        hubbub.until_ready()
        site.until_logged("Serving HTTP")
        yield Notifications(processes, {}, hubbub, site)
        assert "Traceback" not in processes.logs()


def connect(page: Page, token: str) -> None:
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Connect").click()


def test_what_the_readme_publishes_is_shown_and_so_is_what_there_was_before(
    page: Page, example: Notifications, complaints: list[str]
) -> None:
    [token] = re.findall(r"^uv run hubbub token .*", README, re.MULTILINE)
    [publish] = re.findall(r"^uv run hubbub publish .*", README, re.MULTILINE)
    [shown] = re.findall(r"the page shows `(.*?)`", README)

    connect(page, example.run(token))
    expect(page.get_by_role("status")).to_have_text(FOLLOWING)
    expect(page.locator("li")).to_have_count(0)
    example.run(publish)
    expect(page.locator("li")).to_have_text([shown])

    page.reload()
    connect(page, example.run(token))
    expect(page.locator("li")).to_have_text([shown])
    assert complaints == []


def test_a_page_that_was_cut_off_shows_what_it_missed_once(
    page: Page, example: Notifications
) -> None:
    connect(page, example.run("uv run hubbub token --user ben"))
    expect(page.get_by_role("status")).to_have_text(FOLLOWING)
    publish = "uv run hubbub publish '#ben' '{}'"

    example.run(publish.format(json.dumps({"event": "first"})))
    expect(page.locator("li")).to_have_text(["first {}"])
    page.context.set_offline(True)
    assert example.hubbub.stop() == 0
    example.bring_hubbub_back()
    example.run(publish.format(json.dumps({"event": "second"})))
    page.context.set_offline(False)

    expect(page.locator("li")).to_have_text(["first {}", "second {}"])
    expect(page.get_by_role("status")).to_have_text(FOLLOWING)


def test_who_has_no_valid_token_is_told_so(page: Page) -> None:
    connect(page, "none")

    expect(page.get_by_role("status")).to_have_text("Disconnected: invalid token")
