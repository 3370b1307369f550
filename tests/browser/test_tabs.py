"""Tabs of one browser: who shares a session, and that it is refreshed by one of them at a time."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.conftest import PLAIN_HOST
from tests.system.processes import HubbubProcess, processes_in

pytestmark = pytest.mark.browser

LATER_MS = 30_000
ASK = """() => {
  window.asked = import("/web/account.js").then((account) =>
    Promise.all([1, 2, 3].map(async () => {
      await account.call("/auth/me");
      await account.call("/auth/me");
    })));
}"""


@pytest.fixture(scope="module")
def hubbub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubbubProcess]:
    """Its tokens live so shortly that the page refreshes them before each request."""
    with processes_in(Path(tmp_path_factory.mktemp("tabs"))) as processes:
        up = processes.up(env={"HUBBUB_AUTH_ACCESS_TOKEN_SECONDS": "50"})
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
    expect(page.locator("#me")).to_have_text(name.capitalize(), timeout=LATER_MS)


def test_a_message_is_sent_over_plain_http_too(
    context: BrowserContext, hubbub: HubbubProcess
) -> None:
    page = a_tab(context, f"http://{PLAIN_HOST}:{hubbub.port}/")
    assert page.evaluate("isSecureContext") is False
    sign_in(page, "Ada")

    page.get_by_label("Message").fill("from afar")
    page.get_by_role("button", name="Send").click()

    sent = page.locator("#messages li:not(.notice):not(.pending)", has_text="from afar")
    expect(sent).to_have_count(1, timeout=LATER_MS)


def test_a_duplicated_tab_shares_the_session_until_one_of_them_signs_out(
    context: BrowserContext, url: str
) -> None:
    first = a_tab(context, url)
    sign_in(first, "Ada")
    with context.expect_page() as opened:
        first.evaluate("void window.open(location.href)")  # with a copy of what the tab keeps
    second = opened.value
    expect_signed_in(second, "Ada")

    for page in (first, second):
        page.evaluate(ASK)
    for page in (first, second):
        page.evaluate("() => window.asked")  # which fails if a session has ended

    second.get_by_role("button", name="Sign out").click()
    for page in (first, second):
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible(timeout=LATER_MS)


def test_two_windows_of_one_browser_may_be_two_people(
    context: BrowserContext, hubbub: HubbubProcess
) -> None:
    ada, grace = a_tab(context, hubbub.url), a_tab(context, hubbub.url)
    sign_in(ada, "Ada")
    sign_in(grace, "Grace")

    for page in (ada, grace):
        page.reload()

    expect_signed_in(ada, "Ada")
    expect_signed_in(grace, "Grace")
    grace.get_by_role("button", name="Sign out").click()
    expect(grace.get_by_role("heading", name="Sign in")).to_be_visible()
    expect_signed_in(ada, "Ada")
