"""The quick starts of docs/your-application.md, in a real browser."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

from hubbub_client.tokens import connection_token
from tests.fixtures import plain_http
from tests.fixtures.ports import free_ports
from tests.sdk.javascript import FOLDER as SDK_FOLDER
from tests.system.processes import HubbubProcess, Processes, processes_in, until

pytestmark = pytest.mark.browser
expect.set_options(timeout=20_000)  # a machine that runs the whole system may be busy

DOCS = Path(__file__).resolve().parents[2] / "docs"
QUICK_START = (DOCS / "your-application.md").read_text().split("\n## ")[1]
FIRST_ERRORS = (DOCS / "errors.md").read_text()
BEGIN, *SECTIONS, END = QUICK_START.split("\n### ")
FRAMEWORKS = {section.partition("\n")[0]: section for section in SECTIONS}
MOST_LINES = 40
"""For a framework, with what is the same for all; without empty ones."""
[USER] = set(re.findall(r'ANN = "(.*?)"', QUICK_START))
BUNDLE = "node_modules/centrifuge/dist/centrifuge.js"
SECRET = "a text of thirty-two bytes or more"
ENVIRONMENT = dict.fromkeys(re.findall(r"(HUBBUB_\w+)=\$", BEGIN), SECRET)
COMMAND_SECONDS = 60


def snippets(text: str) -> list[str]:
    return re.findall(r"```\w+\n(.*?)```", text, re.DOTALL)


def command(line: str) -> list[str]:
    """It, in this environment in place of the one that uv makes."""
    program, *arguments = shlex.split(re.sub(r"^(run|uv run)( --with \S+)* ", "", line))
    module = {"django-admin": "django"}.get(program, program)
    return [program, *arguments] if program.endswith(".py") else ["-m", module, *arguments]


@dataclass(frozen=True)
class Shop:
    """Started as the quick start says."""

    processes: Processes
    hubbub: HubbubProcess
    application: HubbubProcess


class Folder:
    """Into which somebody writes what the document shows, for this Hubbub."""

    def __init__(self, path: Path, hubbub: HubbubProcess) -> None:
        self.path = path
        self._hubbub = hubbub

    def write(self, name: str, text: str) -> None:
        (self.path / name).write_text(text.replace(":8000", f":{self._hubbub.port}"))

    def write_application(self, name: str, section: str) -> str:
        """The line that starts it."""
        if name != "Django":
            application, last = snippets(section)
            self.write("app.py", application)
            return last
        first, settings, urls, last = snippets(section)
        alias, create = first.splitlines()
        assert alias.startswith("alias run=")
        create_it = [sys.executable, *command(create)]
        subprocess.run(create_it, cwd=self.path, timeout=COMMAND_SECONDS, check=True)
        self.write("shop/settings.py", (self.path / "shop/settings.py").read_text() + settings)
        self.write("shop/urls.py", urls)
        return last


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with processes_in(tmp_path_factory.mktemp("shops")) as started:
        yield started
        assert "Traceback" not in started.logs()


@pytest.fixture(scope="module")
def hubbub(processes: Processes) -> HubbubProcess:
    started = processes.up(env=ENVIRONMENT)
    started.until_ready()
    return started


@pytest.fixture(scope="module", params=FRAMEWORKS)
def shop(
    request: pytest.FixtureRequest,
    sdk: None,
    processes: Processes,
    hubbub: HubbubProcess,
    tmp_path_factory: pytest.TempPathFactory,
) -> Shop:
    folder = Folder(tmp_path_factory.mktemp("shop"), hubbub)
    setup, page = snippets(BEGIN)
    assert f"mkdir page && npm install centrifuge && cp {BUNDLE} page/\n" in setup
    (folder.path / "page").mkdir()
    shutil.copy(SDK_FOLDER / BUNDLE, folder.path / "page")
    folder.write("page/index.html", page)
    start = folder.write_application(request.param, FRAMEWORKS[request.param])
    port = free_ports()
    application = processes.start(
        *command(start.replace("9000", str(port))),
        env=ENVIRONMENT | {"no_proxy": "127.0.0.1"},
        port=port,
        script=sys.executable,
        cwd=folder.path,
    )
    until(lambda: is_there(application), why=f"the application\n{application.log}")
    return Shop(processes, hubbub, application)


def is_there(application: HubbubProcess) -> bool:
    try:
        return plain_http.get(application.url).is_success
    except httpx2.TransportError:
        return False


@pytest.fixture
def page(browser: Browser, shop: Shop) -> Iterator[Page]:
    page = browser.new_page()
    with page.expect_websocket() as opened:
        page.goto(shop.application.url)
    opened.value.wait_for_event("framereceived")
    yield page
    page.close()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_it_is_short(framework: str) -> None:
    shown = [*snippets(BEGIN), *snippets(FRAMEWORKS[framework]), *snippets(END)]

    assert sum(bool(line) for snippet in shown for line in snippet.splitlines()) <= MOST_LINES


def test_what_the_application_does_is_seen_on_the_page(page: Page, shop: Shop) -> None:
    [curl] = snippets(END)
    [(method, path)] = re.findall(r"curl -X (\w+) http://127.0.0.1:9000(\S+)", curl)

    plain_http.request(method, f"{shop.application.url}{path}").raise_for_status()

    expect(page.locator("body")).to_contain_text("order_shipped 17")
    assert "The page shows `order_shipped 17`" in END


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
