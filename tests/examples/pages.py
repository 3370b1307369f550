"""What the examples' READMEs have a reader do: start all of it, open the page, and sign in."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from tests.system.processes import HubbubProcess, Processes

expect.set_options(timeout=20_000)  # a machine that runs the whole system may be busy

PASSWORD = "correct horse"


@dataclass(frozen=True)
class Example:
    """Started as its README says."""

    processes: Processes
    environment: dict[str, str]
    hubbub: HubbubProcess
    """The whole system, or its gateway alone."""
    application: HubbubProcess
    """It serves the page."""

    def bring_hubbub_back(self) -> None:
        """Once it was stopped."""
        self.processes.up(port=self.hubbub.port, env=self.environment).until_ready()


def shown_environment(folder: Path) -> dict[str, str]:
    """Of `example.env`."""
    lines = (folder / "example.env").read_text().splitlines()
    return dict(word.split("=", 1) for line in lines for word in shlex.split(line, comments=True))


@contextmanager
def opened_page(browser: Browser, url: str, complaints: list[str]) -> Iterator[Page]:
    """A page with nothing from others; its errors are added to the complaints."""

    def note_error(line: ConsoleMessage) -> None:
        if line.type == "error":
            complaints.append(line.text)

    page = browser.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", note_error)
    page.goto(url)
    yield page
    page.close()


def enter(page: Page, how: str, name: str, *, password: str = PASSWORD) -> None:
    """Sign up or in, where one form is for both."""
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name=how).click()
