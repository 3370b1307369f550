"""Django's sessions, and a worker that publishes on commit, in a real browser."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.examples.pages import PASSWORD, Example, shown_environment
from tests.fixtures import plain_http
from tests.fixtures.ports import free_ports
from tests.sdk.javascript import NODE_MODULES
from tests.system.processes import HubbubProcess, processes_in

pytestmark = pytest.mark.browser

FOLDER = Path(__file__).resolve().parents[2] / "examples/django_reports"
README = (FOLDER / "README.md").read_text()
MANAGE = "examples.django_reports.manage"
MIGRATE, WORK, SERVE = (
    shlex.split(line)
    for line in re.findall(rf"^run python -m {MANAGE} (.*?)(?: &)?$", README, re.M)
)
FOLLOWING = "You hear of your reports as they go on."
COMMAND_SECONDS = 60


@dataclass(frozen=True)
class Reports(Example):
    worker: HubbubProcess


@pytest.fixture(scope="module")
def example(sdk: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reports]:
    home = tmp_path_factory.mktemp("django_reports")
    hubbub_port, port = free_ports(), free_ports()
    environment = {
        name: value.replace(":8080/", f":{port}/")
        for name, value in shown_environment(FOLDER).items()
    } | {
        "DJANGO_REPORTS_DATABASE": str(home / "reports.sqlite3"),
        "DJANGO_REPORTS_GATEWAY": f"127.0.0.1:{hubbub_port}",
        "DJANGO_REPORTS_SDK": str(NODE_MODULES / "centrifuge/dist/centrifuge.js"),
        "PYTHONUNBUFFERED": "1",
        "no_proxy": "127.0.0.1",
    }
    *options, default_port = SERVE
    assert default_port == "8080"
    with processes_in(home) as processes:
        hubbub = processes.up(port=hubbub_port, env=environment)
        migrated = processes.start(*MIGRATE, env=environment, module=MANAGE)
        assert migrated.wait(seconds=COMMAND_SECONDS) == 0, migrated.log
        worker = processes.start(*WORK, env=environment, module=MANAGE)
        application = processes.start(
            *options, str(port), env=environment, port=port, module=MANAGE
        )
        hubbub.until_ready()
        application.until_logged("Starting development server")
        yield Reports(processes, environment, hubbub, application, worker)
        assert "Traceback" not in processes.logs()


def sign_up(page: Page, name: str) -> None:
    page.get_by_role("link", name="Sign up").click()
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password", exact=False).first.fill(PASSWORD)
    page.get_by_label("Password confirmation").fill(PASSWORD)
    page.get_by_role("button", name="Sign up").click()
    expect(page.locator("#connection")).to_have_text(FOLLOWING)


def sign_in(page: Page, name: str) -> None:
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()


def ask_for(page: Page, title: str) -> None:
    page.get_by_label("Report").fill(title)
    page.get_by_role("button", name="Ask for it").click()


def test_the_page_shows_how_the_worker_goes_on_without_a_token(
    page: Page, other: Page, complaints: list[str]
) -> None:
    sign_up(page, "ann")
    sign_up(other, "ben")
    states = page.evaluate_handle(
        """() => {
            const states = [];
            const note = () => states.push(document.querySelector("#reports li").textContent);
            new MutationObserver(note).observe(
                document.getElementById("reports"), { childList: true, subtree: true },
            );
            return states;
        }"""
    )

    ask_for(page, "Costs")

    expect(page.locator("#reports li")).to_have_text(["Costs: ready"])
    assert list(dict.fromkeys(states.json_value())) == [
        "Costs: asked for",
        "Costs: being made",
        "Costs: ready",
    ]
    expect(other.locator("#reports li")).to_have_count(0)
    assert complaints == []


def test_all_browsers_of_a_user_show_the_same(page: Page, other: Page) -> None:
    sign_up(page, "cleo")
    sign_in(other, "cleo")
    expect(other.locator("#connection")).to_have_text(FOLLOWING)

    ask_for(page, "Sales")
    ask_for(other, "Stock")

    for each in (page, other):
        expect(each.locator("#reports li")).to_have_text(["Sales: ready", "Stock: ready"])


def test_who_signs_out_in_one_browser_is_disconnected_there_and_stays_in_the_other(
    browser: Browser, example: Example, other: Page, complaints: list[str]
) -> None:
    context = browser.new_context()
    page, second_tab = context.new_page(), context.new_page()
    page.goto(example.application.url)
    sign_up(page, "dora")
    second_tab.goto(example.application.url)
    sign_in(other, "dora")
    for each in (second_tab, other):
        expect(each.locator("#connection")).to_have_text(FOLLOWING)

    page.get_by_role("button", name="Sign out").click()

    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    expect(second_tab.locator("#connection")).to_have_text("Disconnected: signed out")
    ask_for(other, "Plans")
    expect(other.locator("#reports li")).to_have_text(["Plans: ready"])
    expect(second_tab.locator("#reports li")).to_have_count(0)
    context.close()


def test_a_report_that_was_made_while_hubbub_was_away_is_shown_once_it_is_back(
    page: Page, example: Reports
) -> None:
    sign_up(page, "emil")
    assert example.hubbub.stop() == 0
    expect(page.locator("#connection")).to_have_text("Connecting…")

    ask_for(page, "Weather")
    example.worker.until_logged("not published in #")
    example.bring_hubbub_back()

    expect(page.locator("#reports li")).to_have_text(["Weather: ready"])


def test_nobody_but_the_gateway_is_told_who_somebody_is(example: Example) -> None:
    url = f"{example.application.url}/realtime/connect"
    secret = example.environment["DJANGO_REPORTS_REALTIME_SECRET"]
    gateway = {"X-Realtime-Secret": secret}

    assert plain_http.post(url, json={}).status_code == 403
    assert plain_http.get(url, headers=gateway).status_code == 405
    answer = plain_http.post(url, json={}, headers=gateway)
    assert answer.json() == {"disconnect": {"code": 4501, "reason": "signed out"}}


def test_other_sites_can_ask_for_nothing(page: Page, example: Example) -> None:
    sign_up(page, "finn")

    forged = page.request.post(f"{example.application.url}/reports", form={"title": "Forged"})

    assert forged.status == 403
