"""Processes of our own: kept alive, stopped in order, never left behind."""

import asyncio
import time
from collections.abc import Mapping, Sequence

import structlog

from hubbub.ending import end_or_kill
from hubbub.errors import CommandFailed
from hubbub.lifeline import CANNOT_SERVE
from shared.runtime.backoff import Backoff

log = structlog.get_logger(__name__)

STOP_SECONDS = 3.0
LAST_WORDS_BYTES = 4096


class Child:
    """One process, started again whenever it dies.

    Its standard input is a pipe that only we hold, so that it notices our end, however we end;
    its standard output is for what only we are to hear (`hubbub.lifeline`).
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        env: Mapping[str, str],
        *,
        backoff: Backoff | None = None,
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        """``env`` is all of its environment. What is secret belongs there, or in a file."""
        self._name = name
        self._command = command
        self._env = env
        self._backoff = backoff or Backoff()
        self._stop_seconds = stop_seconds
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._has_ended = False

    @property
    def pid(self) -> int | None:
        """Of the process that runs now, if one does."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process is not None else None

    def ask_to_stop(self) -> None:
        """Let it begin to drain; it is not started again."""
        self._stopping = True
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()

    async def run(self) -> None:
        """Keep it alive until cancelled; then stop it and wait for its end.

        Raises:
            CommandFailed: its first life ended with `CANNOT_SERVE`, as each further one would.
        """
        try:
            while not self._stopping:
                await self._live_once()
        finally:
            await self._stop()

    async def _live_once(self) -> None:
        started = time.monotonic()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=dict(self._env),
                start_new_session=True,  # the terminal's Ctrl-C is for us; we pass it on in order
            )
        except OSError as error:
            await self._pause(time.monotonic() - started, status=None, said=str(error))
        else:
            log.info("child_started", child=self._name, pid=self._process.pid)
            status, said = await _end_of(self._process)
            if self._stopping:
                return
            if status == CANNOT_SERVE and not self._has_ended:
                raise CommandFailed(said)
            self._has_ended = True
            await self._pause(time.monotonic() - started, status=status, said=said)

    async def _pause(self, lived_seconds: float, *, status: int | None, said: str) -> None:
        pause = self._backoff.pause_after(lived_seconds)
        log.error(
            "child_keeps_ending" if pause == self._backoff.longest_seconds else "child_ended",
            child=self._name,
            status=status,
            said=said,
            lived_seconds=round(lived_seconds, 1),
            again_in_seconds=pause,
        )
        await asyncio.sleep(pause)

    async def _stop(self) -> None:
        self.ask_to_stop()
        if self._process is None:
            return
        await end_or_kill(
            _end_of(self._process), within_seconds=self._stop_seconds, kill=self._kill
        )

    def _kill(self) -> None:
        assert self._process is not None
        log.warning("child_killed", child=self._name, after_seconds=self._stop_seconds)
        self._process.kill()


async def _end_of(process: asyncio.subprocess.Process) -> tuple[int, str]:
    """Wait for it; return its status and the last that it said."""
    assert process.stdout is not None
    said = b""
    while chunk := await process.stdout.read(LAST_WORDS_BYTES):
        said = (said + chunk)[-LAST_WORDS_BYTES:]
    return await process.wait(), said.decode(errors="replace").rstrip("\n")
