"""The SDK of browsers, in Node: one process for many tests, which speak to it by lines of JSON."""

import asyncio
import json
import subprocess
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from tests.fixtures.skipping import skip
from tests.gateway.serving import DEADLINE_SECONDS
from tests.sdk.clients import Event, SdkClient, SdkError
from tools.node import NODE, install_packages

FOLDER = Path(__file__).parent
NODE_MODULES = FOLDER / "node_modules"
MAX_LINE_BYTES = 16 * 1024 * 1024
VERSIONS = ("5.8.0", "5.7.1")
TRANSPORTS = ("websocket", "sse", "http_stream")


def need_packages() -> None:
    """Have the SDKs; without them skip, unless nothing may be skipped."""
    problem = install_packages(FOLDER)
    if problem is not None:
        skip(f"npm installs no SDK: {problem}")


@contextmanager
def node() -> Iterator[int]:
    """The process of `driver.js`; the port on which it takes a test's commands."""
    command = [str(NODE), str(FOLDER / "driver.js")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()


class Driver:
    """A test's line to the process. Its clients live as long as it.

    Whoever waits reads it, so a test waits for one thing at a time.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._ids = count(1)
        self._answers: dict[int, Event] = {}
        self._clients: dict[str, JsClient] = {}

    async def open(self, url: str, *, version: str, transport: str, **options: Any) -> "JsClient":
        """A client that isn't connected yet, with options as the SDK has them.

        Instead of functions: `tokens` and `positions`, as driver.js takes them. The handler of
        publications throws `throws` times.
        """
        name = f"client {len(self._clients)}"
        client = self._clients[name] = JsClient(self, name)
        made = {"version": version, "transport": transport, "url": url}
        await client.call("open", made | options)
        return client

    async def ask(self, **command: Any) -> Any:
        """What the process answers.

        Raises:
            SdkError: it was rejected.
        """
        id_ = next(self._ids)
        self._writer.write(json.dumps({"id": id_, **command}).encode() + b"\n")
        async with asyncio.timeout(DEADLINE_SECONDS):
            while id_ not in self._answers:
                await self.read()
        answer = self._answers.pop(id_)
        if error := answer.get("error"):
            raise SdkError(error.get("code"), error["message"])
        return answer.get("result")

    async def read(self) -> None:
        """The next line: an answer, or an event of some client."""
        line = await self._reader.readline()
        assert line, "Node has ended, and printed why"
        message: Event = json.loads(line)
        if "id" in message:
            self._answers[message["id"]] = message
        else:
            self._clients[message.pop("name")].events.append(message)


@asynccontextmanager
async def driving(port: int) -> AsyncGenerator[Driver]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=MAX_LINE_BYTES)
    try:
        yield Driver(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


class JsClient(SdkClient):
    """One `Centrifuge` object in Node."""

    def __init__(self, driver: Driver, name: str) -> None:
        super().__init__()
        self._driver = driver
        self._name = name

    async def call(self, method: str, *args: Any, channel: str | None = None) -> Any:
        on = {} if channel is None else {"channel": channel}
        return await self._driver.ask(name=self._name, method=method, args=args, **on)

    async def _more_events(self) -> None:
        await self._driver.read()
