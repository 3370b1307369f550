"""What the examples' READMEs have a reader do: take the environment, and open the page."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, ConsoleMessage, Page


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
