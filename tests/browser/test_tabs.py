"""Tabs of one browser: one session for all, refreshed once, and ended for all."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect

from tests.browser.conftest import PLAIN_HOST
from tests.system.processes import HubbubProcess, processes_in

pytestmark = pytest.mark.browser

MAKE_STALE = """() => {
  const session = JSON.parse(localStorage.getItem("hubbub.session"));
  localStorage.setItem("hubbub.session", JSON.stringify({ ...session, expires_at: 0 }));
}"""
ASK = """() => {
  window.asked = import("/web/account.js").then((account) =>
    Promise.all([1, 2, 3].map(() => account.call("/auth/me"))));
}"""
REFUSE = """() => {
  const session = JSON.parse(localStorage.getItem("hubbub.session"));
  localStorage.setItem("hubbub.session", JSON.stringify({ ...session, access_token: "x" }));
  window.sockets.forEach((socket) => socket.close());
}"""
SAY_TOO_MUCH = """() => {
  for (let n = 0; n < 500; n++) window.sockets[0].send('{"type":"ping"}');
}"""
KEEP_SOCKETS = """
window.sockets = [];
window.closes = [];
window.WebSocket = class extends WebSocket {
  constructor(...given) {
    super(...given);
    window.sockets.push(this);
    this.addEventListener("close", ({ reason }) => window.closes.push(reason));
  }
};
"""


@pytest.fixture(scope="module")
def hubbub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubbubProcess]:
    with processes_in(Path(tmp_path_factory.mktemp("tabs"))) as processes:
        up = processes.up()
        up.until_ready()
        yield up


@pytest.fixture(params=["127.0.0.1", PLAIN_HOST])
def url(request: pytest.FixtureRequest, hubbub: HubbubProcess) -> str:
    return f"http://{request.param}:{hubbub.port}/"


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """One browser of one person."""
    context = browser.new_context()
    yield context
    context.close()


def a_tab(context: BrowserContext, url: str) -> Page:
    page = context.new_page()
    page.goto(url)
    return page


def sign_in(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()
    expect_signed_in(page, name)


def expect_signed_in(page: Page, name: str) -> None:
    expect(page.locator("#me")).to_have_text(name.capitalize())


def expect_signed_out(page: Page) -> None:
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def asked_for(context: BrowserContext, path: str) -> list[Request]:
    """The requests for it from now on."""
    requests: list[Request] = []
    context.on("request", lambda asked: requests.append(asked) if path in asked.url else None)
    return requests


def test_a_message_is_sent_over_plain_http_too(
    context: BrowserContext, hubbub: HubbubProcess
) -> None:
    page = a_tab(context, f"http://{PLAIN_HOST}:{hubbub.port}/")
    assert page.evaluate("isSecureContext") is False
    sign_in(page, "Ada")

    page.get_by_label("Message").fill("from afar")
    page.get_by_role("button", name="Send").click()

    sent = page.locator("#messages li:not(.notice):not(.pending)", has_text="from afar")
    expect(sent).to_have_count(1)


def test_all_tabs_of_a_browser_have_one_session_until_one_of_them_signs_out(
    context: BrowserContext, url: str
) -> None:
    first, second = a_tab(context, url), a_tab(context, url)
    sign_in(first, "Ada")
    with context.expect_page() as opened:
        first.evaluate("void window.open(location.href)")  # with a copy of what the tab keeps
    tabs = [first, second, a_tab(context, url), opened.value]
    for page in tabs:
        expect_signed_in(page, "Ada")

    second.get_by_role("button", name="Sign out").click()
    for page in [*tabs, a_tab(context, url)]:
        expect_signed_out(page)

    sign_in(second, "Grace")
    for page in tabs:
        expect_signed_in(page, "Grace")


def test_all_tabs_of_a_browser_refresh_their_session_once(
    context: BrowserContext, url: str
) -> None:
    first = a_tab(context, url)
    sign_in(first, "Ada")
    with context.expect_page() as opened:
        first.evaluate("void window.open(location.href)")
    tabs = [first, a_tab(context, url), opened.value]
    for page in tabs:
        expect_signed_in(page, "Ada")
    refreshes = asked_for(context, "/auth/token/refresh")

    first.evaluate(MAKE_STALE)
    for page in tabs:
        page.evaluate(ASK)
    for page in tabs:
        page.evaluate("() => window.asked")  # which fails if the session has ended

    assert len(refreshes) == 1


def test_a_private_window_is_somebody_else(
    context: BrowserContext, browser: Browser, url: str
) -> None:
    ada = a_tab(context, url)
    sign_in(ada, "Ada")
    with browser.new_context() as private:
        grace = a_tab(private, url)
        sign_in(grace, "Grace")
        for page in (ada, grace):
            page.reload()
        expect_signed_in(ada, "Ada")
        expect_signed_in(grace, "Grace")

        grace.get_by_role("button", name="Sign out").click()
        expect_signed_out(grace)
    expect_signed_in(ada, "Ada")


def test_who_could_not_sign_out_everywhere_is_told_and_asks_again_with_the_same_token(
    context: BrowserContext, hubbub: HubbubProcess
) -> None:
    page = a_tab(context, hubbub.url)
    sign_in(page, "Ada")
    asks = asked_for(context, "/auth/logout")
    problem = {"code": "revocation_pending", "detail": "not yet everywhere; ask again"}
    context.route("**/auth/logout", lambda route: route.fulfill(status=503, json=problem), times=1)

    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("alert")).to_contain_text("not yet everywhere; ask again")
    expect_signed_in(page, "Ada")

    page.get_by_role("button", name="Sign out").click()
    expect_signed_out(page)
    assert [ask.headers["authorization"] for ask in asks] == [asks[0].headers["authorization"]] * 2


@pytest.mark.parametrize(
    ("do", "reason", "refreshes"),
    [(SAY_TOO_MUCH, "Rate limit", 0), (REFUSE, "Invalid token", 1)],
    ids=["rate limit", "invalid token"],
)
def test_only_a_close_that_is_about_the_token_makes_a_tab_refresh_it(
    context: BrowserContext, hubbub: HubbubProcess, do: str, reason: str, refreshes: int
) -> None:
    context.add_init_script(KEEP_SOCKETS)
    page = a_tab(context, hubbub.url)
    sign_in(page, "Ada")
    expect(page.locator("#count")).to_have_text("1 here")
    page.wait_for_function("() => window.sockets.length === 2")
    asks = asked_for(context, "/auth/token/refresh")

    page.evaluate(do)
    page.wait_for_function(f"() => window.closes.includes('{reason}')")

    page.get_by_label("Message").fill(f"back after {reason}")
    page.get_by_role("button", name="Send").click()
    sent = page.locator("#messages li:not(.notice):not(.pending)", has_text=f"after {reason}")
    expect(sent).to_have_count(1)
    assert len(asks) == refreshes
