"""Workers of one port: whichever is asked tells the metrics of all.

Each tells its own on a socket in a folder that only they can enter. Every series bears the
worker's number instead of being summed: a counter of one process that starts again at zero is
what Prometheus expects; a sum that lacks one process for a moment would look like a restart of
all, and add everything again.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, generate_latest

from shared.runtime.listening import CannotListen

SIBLING_SECONDS = 1.0
"""For a sibling's answer; one that is late is left out, and said to be."""

_END = b"# EOF\n"
"""Without it a sibling died on the way."""
_FAMILY = re.compile(r"^(?=# HELP )", re.MULTILINE)
_HEADER_LINES = 2  # HELP and TYPE


class Siblings:
    """The workers whose sockets lie beside one's own."""

    def __init__(self, socket: Path, registry: CollectorRegistry) -> None:
        """``socket`` is one's own, named by the worker's number; it need not be there yet."""
        self._socket = socket
        self._own = _Labelled(registry, worker=socket.name)

    @asynccontextmanager
    async def answering(self) -> AsyncGenerator[None]:
        """Tell siblings who ask, during the body.

        Raises:
            CannotListen: the folder can't hold a socket.
        """
        try:
            server = await asyncio.start_unix_server(self._answer, self._socket)
        except OSError as error:
            raise CannotListen(f"cannot listen on {self._socket}: {error}") from error
        try:
            yield
        finally:
            server.close()  # and waits for nobody: who asked may be a sibling that hangs

    async def metrics(self) -> bytes:
        """Everybody's, in Prometheus' text format."""
        others = sorted(path for path in self._socket.parent.iterdir() if path != self._socket)
        async with asyncio.TaskGroup() as group:
            asking = {path.name: group.create_task(_ask(path)) for path in others}
        texts = {name: task.result() for name, task in asking.items()}
        texts[self._socket.name] = generate_latest(self._own)
        return merge(texts).encode()

    async def _answer(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(generate_latest(self._own) + _END)
        writer.close()  # once all is written


@dataclass(frozen=True, slots=True)
class _Labelled:
    """A registry whose samples all bear the worker's number."""

    registry: CollectorRegistry
    worker: str

    def collect(self) -> Iterable[Metric]:
        for family in self.registry.collect():
            family.samples = [
                sample._replace(labels={**sample.labels, "worker": self.worker})
                for sample in family.samples
            ]
            yield family


async def _ask(socket: Path) -> bytes | None:
    """What a sibling tells; None if it is not there, or does not answer in time."""
    try:
        async with asyncio.timeout(SIBLING_SECONDS):
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                told = await reader.read()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return None
    return told.removesuffix(_END) if told.endswith(_END) else None


def merge(texts: Mapping[str, bytes | None]) -> str:
    """One text of several, each family once, as the format demands; and who is in it."""
    families: dict[str, list[str]] = {}
    for _, text in sorted(texts.items()):
        for family in _FAMILY.split((text or b"").decode())[1:]:
            lines = family.splitlines(keepends=True)
            samples = families.setdefault("".join(lines[:_HEADER_LINES]), [])
            samples += lines[_HEADER_LINES:]
    families["# HELP hubbub_worker_up Whether a worker told its metrics.\n"
             "# TYPE hubbub_worker_up gauge\n"] = [
        f'hubbub_worker_up{{worker="{worker}"}} {0 if text is None else 1}\n'
        for worker, text in sorted(texts.items())
    ]  # fmt: skip
    return "".join(header + "".join(samples) for header, samples in families.items())
