"""The examples of the README, and of the document on the outbox, do what these say."""

import asyncio
import inspect
import re
import secrets
import shlex
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

import hubbub_client
from clients.python.tests.conftest import API_KEY
from hubbub_client import HubbubError, errors
from hubbub_client.events import RESERVED
from hubbub_client.outbox import RelayLimits, relaying
from hubbub_client.outbox.__main__ import read_settings
from hubbub_client.outbox.bus import to_bus
from hubbub_client.pytest_plugin import COMMAND, DEFAULT_COMMAND, SETTINGS, START_SECONDS
from hubbub_client.recorder import Recorder
from hubbub_client.running import RunningHubbub, Server
from hubbub_client.sql.database import database_url
from tests.fixtures.tokens import SECRET
from tests.gateway.chatting import RunningGateway
from tests.gateway.protocols.centrifuge.talking import talking

REPOSITORY = Path(__file__).parents[3]
README = (REPOSITORY / "clients/python/README.md").read_text()
OUTBOX = (REPOSITORY / "docs/outbox.md").read_text()


def example(named: str, **known: object) -> Any:
    """A function of theirs, which is told of what is not beside it."""
    sources = re.findall(r"```python\n(.*?)```", README + OUTBOX, re.DOTALL)
    [source] = [each for each in sources if f"def {named}(" in each]
    module = ModuleType("example")
    module.__dict__.update(known)
    exec(source, module.__dict__)
    return getattr(module, named)


async def test_the_first_example_notifies_and_publishes(gateway: RunningGateway, url: str) -> None:
    user = secrets.randbelow(2**50) + 1
    async with gateway.tab(user, "Ann", "lobby") as tab:
        await example("tell")(url, API_KEY, str(user))
        notification = await tab.until("notification")
        publication = await tab.until("publication", data={"text": "hi"})

    assert (notification["event"], notification["total"]) == ("invoice_paid", "9.50")
    assert publication["data"] == {"text": "hi"}


async def test_what_the_example_tells_over_the_bus_is_heard(
    gateway: RunningGateway, nats_url: str
) -> None:
    user = secrets.randbelow(2**50) + 1
    async with gateway.tab(user, "Ann", "lobby") as tab:
        charge = example("charge", InvoicePaid=example("tell").__globals__["InvoicePaid"])
        await charge(nats_url, str(user))
        await tab.until("publication", data={"text": "hi"})
        notification = await tab.until("notification")

    assert (notification["event"], notification["total"]) == ("invoice_paid", "9.50")


async def test_the_token_of_the_example_is_accepted(gateway: RunningGateway) -> None:
    async with talking(gateway, example("token_for")("auth0|5f", "Ann", SECRET)):
        pass


async def test_the_application_of_the_example_greets(gateway: RunningGateway, url: str) -> None:
    def greet() -> httpx2.Response:
        from fastapi.testclient import TestClient

        with TestClient(example("create_app")(url, API_KEY)) as browser:
            return browser.post("/greetings")

    async with gateway.tab(1, "Ann", "lobby") as tab:
        answer = await asyncio.to_thread(greet)
        await tab.until("publication", data={"text": "hi"})

    assert answer.status_code == 200


def test_the_test_of_the_example_passes(hubbub_recorder: Recorder) -> None:
    test = example("test_greeting_is_published", create_app=example("create_app"))
    test(hubbub_recorder)


def test_the_same_test_passes_on_a_real_system(hubbub_server: Server) -> None:
    known = {"create_app": example("create_app"), "TestClient": TestClient}
    test = example("test_greeting_is_published_for_real", **known)
    running = RunningHubbub(hubbub_server)
    test(running)
    running.close()


def test_the_options_of_pytest_are_documented_with_their_defaults(
    pytestconfig: pytest.Config,
) -> None:
    rows = re.findall(r"^\| `(hubbub_\w+)` \|(?: `(.*?)`)? \|", README, re.MULTILINE)

    assert dict(rows) == {COMMAND: DEFAULT_COMMAND, SETTINGS: "", START_SECONDS: "60"}
    assert pytestconfig.getini(START_SECONDS) == "60"


async def test_what_the_outbox_of_the_example_holds_is_sent_by_its_application(
    gateway: RunningGateway, sqlite_url: str, nats_url: str
) -> None:
    record_payment = example("record_payment")
    tables, invoice = (record_payment.__globals__[name] for name in ("Base", "Invoice"))
    user = secrets.randbelow(2**50) + 1
    synchronous = create_engine(sqlite_url)
    tables.metadata.create_all(synchronous)

    def pay() -> None:
        with Session(synchronous) as session:
            session.add(invoice(id=17, user=str(user), total="9.50", is_paid=False))
            session.commit()
            record_payment(session, 17)
        synchronous.dispose()

    engine = create_async_engine(database_url(sqlite_url))
    shop = example("create_shop")(engine, async_sessionmaker(engine), nats_url)
    async with gateway.tab(user, "Ann", "sales") as tab, shop.router.lifespan_context(shop):
        await asyncio.to_thread(pay)
        heard: dict[str, Any] = {}
        while not heard.keys() >= {"notification", "publication"}:  # in either order
            message = await tab.get()
            heard[message["type"]] = message
    await engine.dispose()

    assert (heard["notification"]["event"], heard["notification"]["total"]) == (
        "invoice_paid",
        "9.50",
    )
    assert heard["publication"]["data"] == {"sold": "9.50"}


async def test_sqlite_as_it_is_shown_is_never_locked_by_the_relay(
    sqlite_url: str, nats_url: str, gateway: RunningGateway
) -> None:
    record_payment = example("record_payment")
    tables, invoice = (record_payment.__globals__[name] for name in ("Base", "Invoice"))
    synchronous = example("sqlite_engine")(sqlite_url)
    tables.metadata.create_all(synchronous)

    def pay_many() -> None:
        with Session(synchronous) as session:
            session.add(invoice(id=17, user="1", total="9.50", is_paid=False))
            session.commit()
            for _ in range(100):
                record_payment(session, 17)
        synchronous.dispose()

    engine = create_async_engine(database_url(sqlite_url))
    limits = RelayLimits(idle_seconds=0.001)
    async with to_bus(nats_url) as bus, relaying(engine, bus, limits=limits):
        await asyncio.to_thread(pay_many)
    await engine.dispose()


def test_the_commands_of_the_outbox_are_understood() -> None:
    commands = re.findall(r"^python -m hubbub_client\.outbox (.*)$", OUTBOX, re.MULTILINE)
    [exported] = re.findall(r"^export (HUBBUB_OUTBOX_.*)$", OUTBOX, re.MULTILINE)
    environment = dict(each.split("=", 1) for each in exported.replace("…", "x").split())
    assert len(commands) == 2
    for command in commands:
        read_settings(shlex.split(command.replace("…", "x")), environment)


def test_what_documents_and_examples_import_is_what_may_be_imported() -> None:
    told = set(re.findall(r"^\| `(hubbub_client[a-z_.]*)` \|", README, re.MULTILINE))
    files = [
        REPOSITORY / "README.md",
        *REPOSITORY.glob("docs/**/*.md"),
        *REPOSITORY.glob("clients/python/*.md"),
        *REPOSITORY.glob("examples/**/*.py"),
    ]
    used = {
        module
        for file in files
        if file.parent.name != "ai_stream"  # it answers calls over the bus, beneath the client
        for module in re.findall(
            r"^(?:from|import) (hubbub_client[a-z_.]*)", file.read_text(), re.MULTILINE
        )
    }

    assert used > {"hubbub_client", "hubbub_client.bus"}
    assert used <= told
    for module in told:
        import_module(module)


def test_all_codes_and_reserved_names_are_documented() -> None:
    kinds = [kind for _, kind in inspect.getmembers(hubbub_client, inspect.isclass)]
    codes = {kind.code for kind in kinds if issubclass(kind, HubbubError)} - {HubbubError.code}

    assert [code for code in codes if f"`{code}`" not in README] == []
    assert [name for name in RESERVED if f"`{name}`" not in README] == []
    assert {kind for _, kind in inspect.getmembers(errors, inspect.isclass)} <= set(kinds)
