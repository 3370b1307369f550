"""The quick start of docs/your-application.md, in a real browser."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from hubbub_client.tokens import connection_token
from tests.fixtures import plain_http
from tests.fixtures.ports import free_ports
from tests.sdk.javascript import FOLDER as SDK_FOLDER
from tests.system.processes import HubbubProcess, Processes, processes_in

pytestmark = pytest.mark.browser
expect.set_options(timeout=20_000)  # a machine that runs the whole system may be busy

DOCS = Path(__file__).resolve().parents[2] / "docs"
QUICK_START = (DOCS / "your-application.md").read_text()
FIRST_ERRORS = (DOCS / "errors.md").read_text()
SNIPPETS = re.findall(r"```\w+\n(.*?)```", QUICK_START, re.DOTALL)
APPLICATION, PAGE, COMMANDS, CURL = SNIPPETS
MOST_LINES = 40
[USER] = re.findall(r'ANN = "(.*?)"', APPLICATION)
BUNDLE = "node_modules/centrifuge/dist/centrifuge.js"
SECRET = "a text of thirty-two bytes or more"
ENVIRONMENT = dict.fromkeys(re.findall(r"(HUBBUB_\w+)=", COMMANDS), SECRET)


@dataclass(frozen=True)
class Shop:
    """Started as the quick start says."""

    processes: Processes
    hubbub: HubbubProcess
    application: HubbubProcess


@pytest.fixture(scope="module")
def shop(sdk: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    hubbub_port, port = free_ports(), free_ports()

    def write(name: str, text: str) -> None:
        (folder / name).write_text(text.replace(":8000", f":{hubbub_port}"))

    (folder / "page").mkdir()
    write("app.py", APPLICATION)
    write("page/index.html", PAGE)
    assert f"cp {BUNDLE} page/\n" in COMMANDS
    shutil.copy(SDK_FOLDER / BUNDLE, folder / "page")
    with processes_in(folder) as processes:
        hubbub = processes.up(port=hubbub_port, env=ENVIRONMENT)
        assert "uvicorn app:app --port 9000\n" in COMMANDS
        application = processes.start(
            "app:app",
            "--port",
            str(port),
            env=ENVIRONMENT | {"no_proxy": "127.0.0.1"},
            port=port,
            module="uvicorn",
            cwd=folder,
        )
        hubbub.until_ready()
        application.until_logged("Uvicorn running")
        yield Shop(processes, hubbub, application)
        assert "Traceback" not in processes.logs()


@pytest.fixture
def page(browser: Browser, shop: Shop) -> Iterator[Page]:
    page = browser.new_page()
    with page.expect_websocket() as opened:
        page.goto(shop.application.url)
    opened.value.wait_for_event("framereceived")
    yield page
    page.close()


def test_it_is_short() -> None:
    assert sum(snippet.count("\n") for snippet in SNIPPETS) <= MOST_LINES


def test_what_the_application_does_is_seen_on_the_page(page: Page, shop: Shop) -> None:
    [method, path] = re.findall(r"curl -X (\w+) http://127.0.0.1:9000(\S+)", CURL)[0]

    plain_http.request(method, f"{shop.application.url}{path}").raise_for_status()

    expect(page.locator("body")).to_contain_text("order_shipped 17")
    assert "The page shows `order_shipped 17`" in QUICK_START


def test_what_a_user_was_told_is_seen_with_tail(shop: Shop) -> None:
    plain_http.post(f"{shop.application.url}/orders/18/ship").raise_for_status()

    channel = f"#{USER}"
    data = str(shop.processes.home / "data")
    shop.processes.start("tail", channel, "--from-start", "--data", data).until_logged('"order":18')

    assert "`hubbub tail '#<id>' --from-start`" in FIRST_ERRORS


def test_an_sdk_whose_token_has_expired_is_unauthorized_without_another(
    page: Page, shop: Shop
) -> None:
    token = connection_token(USER, secret=SECRET, seconds=-60)
    url = f"{shop.hubbub.ws_url}/connection/websocket"

    ended = page.evaluate(
        """([url, token]) => new Promise((resolve) => {
            const centrifuge = new Centrifuge(url, { token });
            centrifuge.on("disconnected", resolve);
            centrifuge.connect();
        })""",
        [url, token],
    )

    assert f"disconnected, {ended['code']} `{ended['reason']}`" in FIRST_ERRORS
