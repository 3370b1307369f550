"""The first page, as two people see it in two browsers."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, expect

from tests.fixtures.skipping import skip
from tests.system.processes import HubbubProcess

pytestmark = pytest.mark.browser

README = Path(__file__).resolve().parents[2] / "README.md"

KEEP_SOCKETS = """
window.sockets = [];
window.WebSocket = class extends WebSocket {
  constructor(...given) { super(...given); window.sockets.push(this); }
};
"""

EXPIRE_SESSION = """
const session = JSON.parse(localStorage.getItem("hubbub.session"));
localStorage.setItem("hubbub.session", JSON.stringify({ ...session, expires_at: 0 }));
"""


@pytest.fixture
def complaints() -> list[str]:
    return []


@pytest.fixture
def windows(
    browser: Browser, hubbub: HubbubProcess, complaints: list[str]
) -> Iterator[tuple[Page, Page]]:
    """Of two browsers, or one of them private: they share nothing."""
    contexts = [browser.new_context(), browser.new_context()]
    pages = []
    for context in contexts:
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", partial(_note_error, complaints))
        page.add_init_script(KEEP_SOCKETS)
        page.goto(hubbub.url)
        pages.append(page)
    yield pages[0], pages[1]
    for context in contexts:
        context.close()


def _note_error(complaints: list[str], line: ConsoleMessage) -> None:
    if line.type == "error":
        complaints.append(line.text)


def sign_in(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()
    expect(page.locator("#me")).to_have_text(name.capitalize())


def say(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_role("button", name="Send").click()


def test_the_readmes_first_curl_is_seen_on_the_page(
    windows: tuple[Page, Page], hubbub: HubbubProcess, tmp_path: Path, complaints: list[str]
) -> None:
    """Typed as it stands there, in a folder whose data folder is the system's."""
    if shutil.which("curl") is None:
        skip("there is no curl on this machine")
    [curl] = re.findall(r"^curl .*\n.*/api/publish$", README.read_text(), re.MULTILINE)
    ada, _ = windows
    sign_in(ada, "Ada")
    expect(ada.locator("#count")).to_have_text("1 here")

    command = curl.replace(".hubbub", str(tmp_path / "data")).replace(
        "http://127.0.0.1:8000", hubbub.url
    )
    subprocess.run(["bash", "-c", command], check=True, timeout=30)

    expect(ada.locator("#messages .service")).to_have_text(["hi"])
    assert complaints == []


def test_two_windows_show_each_others_actions_live(
    windows: tuple[Page, Page], complaints: list[str]
) -> None:
    ada, grace = windows
    sign_in(ada, "Ada")
    expect(ada.locator("#count")).to_have_text("1 here")
    sign_in(grace, "Grace")

    for page in windows:
        expect(page.locator("#count")).to_have_text("2 here")
        expect(page.locator("#users li")).to_have_count(2)
    expect(ada.locator("#messages")).to_contain_text("Grace joined")

    say(ada, "Good morning <b>Grace</b>")
    for page in windows:
        expect(page.locator("#messages li:not(.notice)")).to_have_text(
            ["Ada Good morning <b>Grace</b>"]
        )

    ada.get_by_label("Title").fill("Engines")
    ada.get_by_label("Text").fill("Of analysis and difference")
    ada.get_by_role("button", name="Post").click()
    liked = grace.get_by_role("button", name="Like, 0 likes")
    liked.click()
    expect(grace.get_by_role("button", name="Unlike, 1 likes")).to_be_visible()
    expect(ada.get_by_role("button", name="Like, 1 likes")).to_be_visible()

    expect(ada.locator("#unread")).to_have_text("1")
    expect(grace.locator("#unread")).to_be_hidden()
    ada.get_by_role("button", name="notifications").click()
    expect(ada.locator("#notifications")).to_have_text("Grace liked “Engines”")

    grace.get_by_role("button", name="Sign out").click()
    leaves_ms = 30_000  # a reload is not a leave: there is a grace of some seconds
    expect(ada.locator("#messages")).to_contain_text("Grace left", timeout=leaves_ms)
    expect(ada.locator("#count")).to_have_text("1 here")
    expect(grace.get_by_role("heading", name="Sign in")).to_be_visible()
    assert complaints == []


def test_a_wrong_password_is_a_sentence_in_the_form(windows: tuple[Page, Page]) -> None:
    page, _ = windows
    form = page.locator("#sign-in")
    form.get_by_label("Email").fill("ada@example.com")
    form.get_by_label("Password").fill("not the password")
    form.get_by_role("button", name="Sign in").click()

    expect(form.get_by_role("alert")).not_to_be_empty()
    expect(page.locator("#signed-in")).to_be_hidden()


def test_a_newcomer_registers_and_finds_what_was_said_before(windows: tuple[Page, Page]) -> None:
    ada, newcomer = windows
    sign_in(ada, "Ada")
    say(ada, "before you came")
    expect(ada.locator("#messages .pending")).to_have_count(0)
    form = newcomer.locator("#register")
    form.get_by_label("Email").fill("mary@example.com")
    form.get_by_label("Name").fill("Mary")
    form.get_by_label("Password").fill("a long password")
    form.get_by_role("button", name="Register").click()

    expect(newcomer.locator("#me")).to_have_text("Mary")
    expect(newcomer.locator("#messages")).to_contain_text("before you came")


def test_the_feed_is_in_order_though_its_room_tells_of_older_posts_and_of_one_that_is_gone(
    windows: tuple[Page, Page], hubbub: HubbubProcess
) -> None:
    with httpx2.Client(base_url=hubbub.url, verify=False, trust_env=False, timeout=60) as client:
        demo = {"username": "ada@example.com", "password": "hubbub-demo"}
        token = client.post("/auth/token", data=demo).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        ids = [
            client.post("/posts", json={"title": str(each), "body": "x"}).json()["id"]
            for each in range(25)
        ]
        for gone in (ids[2], ids[23]):
            client.delete(f"/posts/{gone}").raise_for_status()
        page, _ = windows
        sign_in(page, "Ada")
        titles = page.locator("#posts strong")
        newest = [str(each) for each in reversed(range(25)) if each != 23][:20]
        expect(titles).to_have_text(newest)

        # What the room told of its past was heard before this.
        client.post("/posts", json={"title": "new", "body": "x"}).raise_for_status()
        expect(titles).to_have_text(["new", *newest])
        expect(page.locator("#feed-error")).to_be_empty()
        expect(page.locator("#status")).to_be_empty()

        page.get_by_role("button", name="Older posts").click()
        expect(titles).to_have_text(["new", *newest, "3", "1", "0"])


def test_the_lobby_is_of_use_while_there_are_no_posts_to_be_had(
    windows: tuple[Page, Page],
) -> None:
    page, _ = windows
    away = {"detail": "the database does not answer now", "code": "unavailable"}
    page.route("**/posts?*", lambda route: route.fulfill(status=503, json=away))
    sign_in(page, "Ada")

    expect(page.locator("#feed-error")).to_have_text("the database does not answer now")
    say(page, "still here")
    expect(page.locator("#messages li:not(.notice)")).to_have_text(["Ada still here"])


def test_the_end_of_one_session_does_not_end_the_next_one_in_the_same_page(
    windows: tuple[Page, Page],
) -> None:
    page, _ = windows
    sign_in(page, "Ada")
    expect(page.locator("#count")).to_have_text("1 here")
    held: list[Route] = []
    page.route("**/auth/token/refresh", lambda route: held.append(route))
    page.evaluate(EXPIRE_SESSION)
    with page.expect_request("**/auth/token/refresh"):
        page.evaluate("window.sockets.forEach((socket) => socket.close())")
    page.get_by_role("button", name="Sign out").click()
    sign_in(page, "Grace")
    expect(page.locator("#users")).to_contain_text("Grace")

    with page.expect_response("**/auth/token/refresh"):
        held.pop().fulfill(status=401, json={"detail": "the refresh token is not valid"})

    say(page, "still Grace")
    expect(page.locator("#messages li:not(.notice)")).to_have_text(["Grace still Grace"])
    page.reload()
    expect(page.locator("#me")).to_have_text("Grace")


def test_a_page_that_lost_its_connection_comes_back_and_misses_nothing(
    windows: tuple[Page, Page],
) -> None:
    ada, grace = windows
    sign_in(ada, "Ada")
    sign_in(grace, "Grace")
    expect(ada.locator("#count")).to_have_text("2 here")

    grace.evaluate("window.sockets.forEach((socket) => socket.close())")
    say(ada, "while you were away")

    expect(grace.locator("#messages li:not(.notice)")).to_have_text(["Ada while you were away"])
    expect(grace.locator("#status")).to_be_empty()
