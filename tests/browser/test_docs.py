"""The page of the HTTP API, in a browser that reaches nothing but this machine."""

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Request, expect

from tests.system.processes import HubbubProcess

pytestmark = pytest.mark.browser


def test_it_shows_every_operation_with_files_of_its_own_origin_alone(
    browser: Browser, hubbub: HubbubProcess
) -> None:
    complaints: list[str] = []
    asked: list[str] = []

    def note(line: ConsoleMessage) -> None:
        if line.type == "error":
            complaints.append(line.text)

    def note_request(request: Request) -> None:
        if not request.url.startswith("data:"):
            asked.append(request.url)

    page = browser.new_page()
    page.on("console", note)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", note_request)
    page.goto(f"{hubbub.url}/docs")

    operations = page.evaluate("fetch('/openapi.json').then((answer) => answer.json())")["paths"]
    expect(page.locator(".opblock")).to_have_count(
        sum(len(methods) for methods in operations.values())
    )
    page.locator("#operations-posts-create_post").click()
    expect(page.locator("#operations-posts-create_post")).to_contain_text("rate_limited")
    page.close()

    assert complaints == []
    assert [url for url in asked if not url.startswith(hubbub.url)] == []
