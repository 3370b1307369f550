"""A synchronous application on a server that forks, in a real browser."""

import re
import shlex
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from examples.flask_orders.app import BUNDLE, FOLDER
from tests.examples.pages import Example, enter, shown_environment
from tests.fixtures import plain_http
from tests.fixtures.ports import free_ports
from tests.sdk.javascript import FOLDER as SDK_FOLDER
from tests.system.processes import processes_in

pytestmark = pytest.mark.browser

README = (FOLDER / "README.md").read_text().replace("\\\n", "")
FOLLOWING = "You hear of your orders as they go on."
COMMAND_SECONDS = 60


class Shop(Example):
    def ship(self, number: int) -> str:
        """What the warehouse's command prints."""
        [command] = re.findall(r" flask (--app \S+ ship) 1$", README, re.MULTILINE)
        command = self.processes.start(
            *shlex.split(command), str(number), env=self.environment, module="flask"
        )
        command.wait(seconds=COMMAND_SECONDS)
        return command.log


@pytest.fixture(scope="module")
def example(sdk: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    home = tmp_path_factory.mktemp("flask_orders")
    hubbub_port, port = free_ports(), free_ports()
    environment = shown_environment(FOLDER) | {
        "FLASK_DATABASE": str(home / "orders.sqlite3"),
        "FLASK_GATEWAY": f"127.0.0.1:{hubbub_port}",
        "FLASK_SDK": str(SDK_FOLDER / BUNDLE),
        "no_proxy": "127.0.0.1",
    }
    [options] = re.findall(r" gunicorn --bind 127.0.0.1:8080 (.*) &$", README, re.MULTILINE)
    with processes_in(home) as processes:
        hubbub = processes.up(port=hubbub_port, env=environment)
        application = processes.start(
            *("--bind", f"127.0.0.1:{port}", *shlex.split(options)),
            env=environment,
            port=port,
            module="gunicorn",
        )
        hubbub.until_ready()
        application.until_logged("Booting worker")
        yield Shop(processes, environment, hubbub, application)
        assert "Traceback" not in processes.logs()


def order(page: Page, item: str) -> int:
    """Its number."""
    page.get_by_label("Item").fill(item)
    page.get_by_role("button", name="Order").click()
    expect(page.locator("#orders li").last).to_have_text(f"{item}: ordered")
    listed = page.evaluate("fetch('/orders').then((response) => response.json())")
    return int(listed[-1]["number"])


def test_who_has_ordered_sees_in_all_tabs_what_another_process_does(
    page: Page, other: Page, example: Shop, complaints: list[str]
) -> None:
    enter(page, "Sign up", "Ann")
    expect(page.locator("#connection")).to_have_text(FOLLOWING)
    enter(other, "Sign in", "Ann")
    expect(other.locator("#connection")).to_have_text(FOLLOWING)

    number = order(page, "A lamp")
    expect(other.locator("#orders li")).to_have_text(["A lamp: ordered"])
    assert example.ship(number) == ""

    for each in (page, other):
        expect(each.locator("#orders li")).to_have_text(["A lamp: shipped"])
    assert "no such order" in example.ship(number)
    assert complaints == []


def test_each_hears_of_their_own_orders_alone(page: Page, other: Page, example: Shop) -> None:
    enter(page, "Sign up", "Ben")
    enter(other, "Sign up", "Bea")
    for each in (page, other):
        expect(each.locator("#connection")).to_have_text(FOLLOWING)

    example.ship(order(page, "A chair"))
    order(other, "A table")

    expect(page.locator("#orders li")).to_have_text(["A chair: shipped"])
    expect(other.locator("#orders li")).to_have_text(["A table: ordered"])


def test_who_signs_out_and_in_again_finds_their_orders(page: Page) -> None:
    enter(page, "Sign up", "Cleo")
    order(page, "A shelf")

    page.get_by_role("button", name="Sign out").click()
    enter(page, "Sign in", "Cleo", password="another password")
    expect(page.locator("#said")).to_have_text("wrong name or password")
    enter(page, "Sign up", "Cleo")
    expect(page.locator("#said")).to_have_text("that name is taken")
    enter(page, "Sign in", "Cleo")

    expect(page.locator("#orders li")).to_have_text(["A shelf: ordered"])


def test_all_workers_publish_though_they_were_forked(page: Page, example: Shop) -> None:
    enter(page, "Sign up", "Dora")
    expect(page.locator("#connection")).to_have_text(FOLLOWING)

    placed = page.evaluate(
        """() => Promise.all([...Array(20).keys()].map((number) =>
            fetch("/orders", { method: "POST", body: new URLSearchParams({ item: number }) })
        ))"""
    )

    assert len(placed) == 20
    expect(page.locator("#orders li")).to_have_count(20)
    assert example.application.log.count("Booting worker") == 2
    assert "is not told" not in example.application.log


def test_nobody_connects_who_is_not_signed_in(example: Shop) -> None:
    assert plain_http.get(f"{example.application.url}/realtime").status_code == 403
