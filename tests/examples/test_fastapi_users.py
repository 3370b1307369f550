"""An application with users of its own, in a real browser."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, Page, expect

from examples.fastapi_users.app import BUNDLE, FOLDER
from tests.examples.pages import opened_page, shown_environment
from tests.fixtures import plain_http
from tests.fixtures.ports import free_ports
from tests.sdk.javascript import FOLDER as SDK_FOLDER
from tests.system.processes import HubbubProcess, Processes, processes_in

pytestmark = pytest.mark.browser
expect.set_options(timeout=20_000)  # a machine that runs the whole system may be busy

PASSWORD = "correct horse"
FOLLOWING = "You hear of tasks as they are given to you."


@dataclass(frozen=True)
class Example:
    """Started as its README says."""

    processes: Processes
    environment: dict[str, str]
    hubbub: HubbubProcess
    application: HubbubProcess


@pytest.fixture(scope="module")
def example(sdk: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    hubbub_port, port = free_ports(), free_ports()
    environment = shown_environment(FOLDER)
    with processes_in(tmp_path_factory.mktemp("fastapi_users")) as processes:
        hubbub = processes.up(port=hubbub_port, env=environment)
        application = processes.start(
            *("--factory", "examples.fastapi_users.app:create_app", "--port", str(port)),
            env=environment
            | {
                "FASTAPI_USERS_GATEWAY": f"127.0.0.1:{hubbub_port}",
                "FASTAPI_USERS_SDK": str(SDK_FOLDER / BUNDLE),
                "no_proxy": "127.0.0.1",
            },
            port=port,
            module="uvicorn",
        )
        hubbub.until_ready()
        application.until_logged("Uvicorn running")
        yield Example(processes, environment, hubbub, application)
        assert "Traceback" not in processes.logs()


@pytest.fixture
def ann(browser: Browser, example: Example, complaints: list[str]) -> Iterator[Page]:
    with opened_page(browser, example.application.url, complaints) as page:
        yield page


@pytest.fixture
def ben(browser: Browser, example: Example, complaints: list[str]) -> Iterator[Page]:
    with opened_page(browser, example.application.url, complaints) as page:
        yield page


def enter(page: Page, how: str, name: str, *, password: str = PASSWORD) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name=how).click()


def give(page: Page, task: str, to: str) -> None:
    page.get_by_label("Task").fill(task)
    page.get_by_label("For").fill(to)
    page.get_by_role("button", name="Give").click()


def test_who_is_given_a_task_sees_it_at_once_and_nobody_else(
    ann: Page, ben: Page, complaints: list[str]
) -> None:
    for page, name in ((ann, "Ann"), (ben, "Ben")):
        enter(page, "Sign up", name)
        expect(page.locator("#connection")).to_have_text(FOLLOWING)

    give(ann, "Water the plants", "Ben")
    expect(ann.locator("#said")).to_have_text("Given to Ben.")
    expect(ben.locator("#tasks li")).to_have_text(["Water the plants (Ann)"])

    give(ben, "Feed the cat", "Ann")
    expect(ann.locator("#tasks li")).to_have_text(["Feed the cat (Ben)"])
    expect(ben.locator("#tasks li")).to_have_count(1)
    assert complaints == []


def test_who_signs_in_again_sees_what_there_is_once_and_hears_what_comes(
    ann: Page, ben: Page
) -> None:
    enter(ann, "Sign up", "Anna")
    expect(ann.locator("#connection")).to_have_text(FOLLOWING)
    give(ann, "Write", "Anna")
    expect(ann.locator("#tasks li")).to_have_text(["Write (Anna)"])

    enter(ben, "Sign in", "Anna")
    expect(ben.locator("#connection")).to_have_text(FOLLOWING)
    give(ann, "Read", "Anna")

    for page in (ann, ben):
        expect(page.locator("#tasks li")).to_have_text(["Write (Anna)", "Read (Anna)"])


def test_a_task_that_was_given_while_hubbub_was_away_is_there_once_it_is_back(
    ann: Page, example: Example
) -> None:
    enter(ann, "Sign up", "Andrea")
    expect(ann.locator("#connection")).to_have_text(FOLLOWING)

    assert example.hubbub.stop() == 0
    expect(ann.locator("#connection")).to_have_text("Connecting…")
    give(ann, "Begin", "Andrea")
    again = example.processes.up(port=example.hubbub.port, env=example.environment)
    again.until_ready()
    expect(ann.locator("#tasks li")).to_have_text(["Begin (Andrea)"])
    expect(ann.locator("#said")).to_have_text("Given to Andrea.")
    give(ann, "End", "Andrea")

    expect(ann.locator("#tasks li")).to_have_text(["Begin (Andrea)", "End (Andrea)"])


def test_who_is_wrong_is_told_so(ann: Page) -> None:
    enter(ann, "Sign in", "Nobody")
    expect(ann.locator("#said")).to_have_text("wrong name or password")
    enter(ann, "Sign up", "Alma")
    expect(ann.locator("#connection")).to_have_text(FOLLOWING)
    give(ann, "Fly", "Nobody")
    expect(ann.locator("#said")).to_have_text("nobody has that name")


def test_a_token_for_hubbub_is_none_for_the_application(example: Example) -> None:
    url = example.application.url
    signed = plain_http.post(f"{url}/sign-up", json={"name": "Arno", "password": PASSWORD}).json()
    bearer = {"Authorization": f"Bearer {signed['access_token']}"}
    realtime = plain_http.post(f"{url}/realtime", headers=bearer).json()

    stranger = {"Authorization": f"Bearer {realtime['token']}"}
    assert plain_http.get(f"{url}/tasks", headers=bearer).status_code == 200
    assert plain_http.get(f"{url}/tasks", headers=stranger).status_code == 401
    again = plain_http.post(f"{url}/sign-up", json={"name": "Arno", "password": PASSWORD})
    assert again.status_code == 409
