"""Metrics of workers that share a port: each worker can return those of all.

Each worker serves its own metrics on a Unix socket in a folder that only they can enter. Samples
are not summed, but labelled with the worker's number. A sum would drop while a worker does not
answer; Prometheus would take that for a counter reset, and count everything again.
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
"""For a sibling's answer. One that is late is left out, and `hubbub_worker_up` says so."""

_END = b"# EOF\n"
"""The end of an answer. Without it the sibling died while it answered."""
_FAMILY = re.compile(r"^(?=# HELP )", re.MULTILINE)
_HEADER_LINES = 2  # HELP and TYPE


class Siblings:
    """The workers whose sockets are in the same folder as this one's."""

    def __init__(self, socket: Path, registry: CollectorRegistry) -> None:
        """``socket`` is this worker's, named by its number; `answering` creates it."""
        self._socket = socket
        self._own = _Labelled(registry, worker=socket.name)

    @asynccontextmanager
    async def answering(self) -> AsyncGenerator[None]:
        """Answer siblings while the body runs.

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
            server.close()  # no `wait_closed`: a sibling that hangs may never read its answer

    async def metrics(self) -> bytes:
        """The metrics of all workers, in Prometheus's text format."""
        others = sorted(path for path in self._socket.parent.iterdir() if path != self._socket)
        async with asyncio.TaskGroup() as group:
            asking = {path.name: group.create_task(_ask(path)) for path in others}
        texts = {name: task.result() for name, task in asking.items()}
        texts[self._socket.name] = generate_latest(self._own)
        return merge(texts).encode()

    async def _answer(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(generate_latest(self._own) + _END)
        writer.close()  # after the buffer is written


@dataclass(frozen=True, slots=True)
class _Labelled:
    """A registry whose samples all have the worker's number as a label."""

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
    """A sibling's metrics; None if it does not answer in time."""
    try:
        async with asyncio.timeout(SIBLING_SECONDS):
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                answer = await reader.read()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return None
    return answer.removesuffix(_END) if answer.endswith(_END) else None


def merge(texts: Mapping[str, bytes | None]) -> str:
    """Merge the texts; each family comes once, as the format demands. None is a missing worker."""
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
