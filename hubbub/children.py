"""Child processes: restarted when they die, stopped in order, never left behind."""

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
    """A process that is started again whenever it dies.

    Its standard input is a pipe that only we hold, so that it notices when we end, in whatever
    way. Its standard output is for messages to us only (`hubbub.lifeline`).
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
        """``env`` is its whole environment. Secrets belong there or into a file."""
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
        """Of the running process, if any."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process is not None else None

    def ask_to_stop(self) -> None:
        """Send SIGTERM, so that it drains; it is not started again."""
        self._stopping = True
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()

    async def run(self) -> None:
        """Keep it running until cancelled; then stop it and wait for its end.

        Raises:
            CommandFailed: the first run ended with `CANNOT_SERVE`, so every further one would too.
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
                start_new_session=True,  # a Ctrl-C reaches us only; we stop the children in order
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
    """Wait for its end; return its status and the end of its output."""
    assert process.stdout is not None
    said = b""
    while chunk := await process.stdout.read(LAST_WORDS_BYTES):
        said = (said + chunk)[-LAST_WORDS_BYTES:]
    return await process.wait(), said.decode(errors="replace").rstrip("\n")
