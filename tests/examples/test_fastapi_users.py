"""An application with users of its own, in a real browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from examples.fastapi_users.app import BUNDLE, FOLDER
from tests.examples.pages import PASSWORD, Example, enter, shown_environment
from tests.fixtures import plain_http
from tests.fixtures.ports import free_ports
from tests.sdk.javascript import FOLDER as SDK_FOLDER
from tests.system.processes import processes_in

pytestmark = pytest.mark.browser

FOLLOWING = "You hear of tasks as they are given to you."


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


def give(page: Page, task: str, to: str) -> None:
    page.get_by_label("Task").fill(task)
    page.get_by_label("For").fill(to)
    page.get_by_role("button", name="Give").click()


def test_who_is_given_a_task_sees_it_at_once_and_nobody_else(
    page: Page, other: Page, complaints: list[str]
) -> None:
    for each, name in ((page, "Ann"), (other, "Ben")):
        enter(each, "Sign up", name)
        expect(each.locator("#connection")).to_have_text(FOLLOWING)

    give(page, "Water the plants", "Ben")
    expect(page.locator("#said")).to_have_text("Given to Ben.")
    expect(other.locator("#tasks li")).to_have_text(["Water the plants (Ann)"])

    give(other, "Feed the cat", "Ann")
    expect(page.locator("#tasks li")).to_have_text(["Feed the cat (Ben)"])
    expect(other.locator("#tasks li")).to_have_count(1)
    assert complaints == []


def test_who_signs_in_again_sees_what_there_is_once_and_hears_what_comes(
    page: Page, other: Page
) -> None:
    enter(page, "Sign up", "Anna")
    expect(page.locator("#connection")).to_have_text(FOLLOWING)
    give(page, "Write", "Anna")
    expect(page.locator("#tasks li")).to_have_text(["Write (Anna)"])

    enter(other, "Sign in", "Anna")
    expect(other.locator("#connection")).to_have_text(FOLLOWING)
    give(page, "Read", "Anna")

    for each in (page, other):
        expect(each.locator("#tasks li")).to_have_text(["Write (Anna)", "Read (Anna)"])


def test_a_task_that_was_given_while_hubbub_was_away_is_there_once_it_is_back(
    page: Page, example: Example
) -> None:
    enter(page, "Sign up", "Andrea")
    expect(page.locator("#connection")).to_have_text(FOLLOWING)

    assert example.hubbub.stop() == 0
    expect(page.locator("#connection")).to_have_text("Connecting…")
    give(page, "Begin", "Andrea")
    example.bring_hubbub_back()
    expect(page.locator("#tasks li")).to_have_text(["Begin (Andrea)"])
    expect(page.locator("#said")).to_have_text("Given to Andrea.")
    give(page, "End", "Andrea")

    expect(page.locator("#tasks li")).to_have_text(["Begin (Andrea)", "End (Andrea)"])


def test_who_is_wrong_is_told_so(page: Page) -> None:
    enter(page, "Sign in", "Nobody")
    expect(page.locator("#said")).to_have_text("wrong name or password")
    enter(page, "Sign up", "Alma")
    expect(page.locator("#connection")).to_have_text(FOLLOWING)
    give(page, "Fly", "Nobody")
    expect(page.locator("#said")).to_have_text("nobody has that name")


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
