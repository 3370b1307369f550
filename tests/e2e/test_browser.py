"""The page as browsers get it from the edge, in two browsers of two people."""

from collections.abc import Iterator
from functools import partial
from secrets import token_hex

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from tests.e2e.people import PASSWORD, an_email
from tests.e2e.stack import Stack

pytestmark = pytest.mark.browser

COMES_BACK_MS = 20_000
"""A page whose connection was lost tries again after pauses that grow."""
KEEP_SOCKETS = """
window.sockets = [];
window.WebSocket = class extends WebSocket {
  constructor(...given) { super(...given); window.sockets.push(this); }
};
"""


@pytest.fixture
def complaints() -> list[str]:
    return []


@pytest.fixture
def windows(browser: Browser, stack: Stack, complaints: list[str]) -> Iterator[tuple[Page, Page]]:
    contexts = [browser.new_context() for _ in range(2)]
    pages = []
    for context in contexts:
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", partial(_note_error, complaints))
        page.add_init_script(KEEP_SOCKETS)
        page.goto(stack.url)
        pages.append(page)
    yield pages[0], pages[1]
    for context in contexts:
        context.close()


def _note_error(complaints: list[str], line: ConsoleMessage) -> None:
    if line.type == "error":
        complaints.append(line.text)


def register(page: Page, name: str) -> None:
    form = page.locator("#register")
    form.get_by_label("Email").fill(an_email())
    form.get_by_label("Name").fill(name)
    form.get_by_label("Password").fill(PASSWORD)
    form.get_by_role("button", name="Register").click()
    expect(page.locator("#me")).to_have_text(name)


def say(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_role("button", name="Send").click()


def test_two_people_register_chat_post_like_and_see_it_live_through_the_edge(
    windows: tuple[Page, Page], complaints: list[str]
) -> None:
    ada, grace = windows
    mark = token_hex(3)  # the lobby is everybody's, and other tests may have been there
    register(ada, f"Ada {mark}")
    register(grace, f"Grace {mark}")
    for page in windows:
        expect(page.locator("#users")).to_contain_text(f"Ada {mark}")
        expect(page.locator("#users")).to_contain_text(f"Grace {mark}")

    say(ada, f"Good morning <b>{mark}</b>")
    for page in windows:
        line = page.locator("#messages li:not(.notice):not(.pending)", has_text=mark)
        expect(line).to_have_text(f"Ada {mark} Good morning <b>{mark}</b>")

    ada.get_by_label("Title").fill(f"Engines {mark}")
    ada.get_by_label("Text").fill("Of analysis and difference")
    ada.get_by_role("button", name="Post").click()
    posted = grace.locator("#posts > li", has_text=f"Engines {mark}")
    posted.get_by_role("button", name="Like, 0 likes").click()
    expect(posted.get_by_role("button", name="Unlike, 1 likes")).to_be_visible()

    expect(ada.locator("#unread")).to_have_text("1")
    ada.get_by_role("button", name="notifications").click()
    expect(ada.locator("#notifications")).to_have_text(f"Grace {mark} liked “Engines {mark}”")
    assert complaints == []


def test_pages_come_back_by_themselves_when_the_gateways_are_replaced_and_miss_nothing(
    windows: tuple[Page, Page], stack: Stack
) -> None:
    ada, grace = windows
    mark = token_hex(3)
    register(ada, f"Ada {mark}")
    register(grace, f"Grace {mark}")
    lines = []
    for number, gateway in enumerate(stack.gateways):
        gateway.replace()
        lines.append(f"after {number} of {mark}")
        say(ada, lines[-1])  # into a connection that may be gone: it is kept and sent again
        expect(ada.locator("#messages li.pending")).to_have_count(0, timeout=COMES_BACK_MS)
        expect(grace.locator("#messages")).to_contain_text(lines[-1], timeout=COMES_BACK_MS)
        grace.evaluate("window.sockets.forEach((socket) => socket.close())")
        lines.append(f"while Grace was away {number} of {mark}")
        say(ada, lines[-1])
        gateway.until_ready()

    said = [f"Ada {mark} {line}" for line in lines]
    for page in (ada, grace):
        shown = page.locator("#messages li:not(.notice):not(.pending)", has_text=mark)
        expect(shown).to_have_text(said, timeout=COMES_BACK_MS)
        expect(page.locator("#status")).to_be_empty()
