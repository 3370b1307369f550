"""The answer of a model, word by word, in a real browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from examples.ai_stream.app import BUNDLE, FOLDER
from tests.examples.pages import Example, shown_environment
from tests.fixtures.nats import NatsServer
from tests.fixtures.ports import free_ports
from tests.sdk.javascript import FOLDER as SDK_FOLDER
from tests.system.processes import processes_in, until

pytestmark = pytest.mark.browser

WHOLE = "Count to 20"
ENDLESS = "Count to 1000000"


class Stream(Example):
    def replace_gateway(self) -> None:
        """Another one takes its place."""
        assert self.hubbub.stop() == 0
        port = self.hubbub.port
        self.processes.service("gateway", env=self.environment, port=port).until_ready()


@pytest.fixture(scope="module")
def example(sdk: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stream]:
    home = tmp_path_factory.mktemp("ai_stream")
    nats = NatsServer(home / "nats")
    nats.start()
    gateway_port, port = free_ports(), free_ports()
    environment = shown_environment(FOLDER) | {
        "HUBBUB_NATS_URL": nats.url,
        "AI_STREAM_GATEWAY": f"ws://127.0.0.1:{gateway_port}/connection/websocket",
        "AI_STREAM_SDK": str(SDK_FOLDER / BUNDLE),
    }
    try:
        with processes_in(home) as processes:
            assert processes.start("bootstrap", env=environment).wait(seconds=30) == 0
            gateway = processes.service("gateway", env=environment, port=gateway_port)
            application = processes.start(
                "--port", str(port), env=environment, port=port, module="examples.ai_stream"
            )
            gateway.until_ready()
            application.until_logged("Uvicorn running")
            yield Stream(processes, environment, gateway, application)
            assert "Traceback" not in processes.logs()
    finally:
        nats.stop()


def ask(page: Page, question: str) -> None:
    page.get_by_label("Question").fill(question)
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#question")).to_have_text(question)


def words_in(page: Page) -> int:
    """How many there are; none is missing, and none is there twice."""
    words = page.locator("#answer").inner_text().split()
    assert words == [str(number) for number in range(1, len(words) + 1)]
    return len(words)


def until_more_than(page: Page, words: int) -> int:
    until(lambda: words_in(page) > words, why=f"more than {words} words")
    return words_in(page)


def test_an_answer_ends_by_itself_and_stays(page: Page, complaints: list[str]) -> None:
    ask(page, WHOLE)
    expect(page.locator("#status")).to_have_text("Finished.")
    assert words_in(page) == 20

    page.reload()

    expect(page.locator("#status")).to_have_text("Finished.")
    expect(page.locator("#question")).to_have_text(WHOLE)
    assert words_in(page) == 20
    assert complaints == []


def test_a_page_that_is_loaded_again_shows_all_of_it_and_goes_on(
    page: Page, complaints: list[str]
) -> None:
    ask(page, ENDLESS)
    seen = until_more_than(page, 50)

    for _ in range(2):
        page.reload()
        seen = until_more_than(page, seen)

    expect(page.locator("#status")).to_have_text("Writing…")
    assert complaints == []


def test_a_gateway_that_is_replaced_leaves_no_gap(page: Page, example: Stream) -> None:
    ask(page, ENDLESS)
    seen = until_more_than(page, 20)

    example.replace_gateway()

    until_more_than(page, seen + 100)


def test_an_answer_is_for_who_asked(page: Page, browser: Browser) -> None:
    ask(page, WHOLE)
    another = browser.new_context()
    stranger = another.new_page()

    stranger.goto(page.url)

    expect(stranger.locator("#status")).to_have_text("There is no such answer.")
    another.close()


def test_stop_reaches_the_writer_who_says_no_more(page: Page, complaints: list[str]) -> None:
    ask(page, ENDLESS)
    until_more_than(page, 20)
    page.reload()
    stopped = page.url

    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#status")).to_have_text("Stopped.")
    words = words_in(page)
    ask(page, WHOLE)
    expect(page.locator("#status")).to_have_text("Finished.")
    page.goto(stopped)

    expect(page.locator("#status")).to_have_text("Stopped.")
    assert words_in(page) == words
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    assert complaints == []
