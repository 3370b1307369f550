"""Further gateways as processes of their own: kept alive, stopped in order, never left behind."""

import asyncio
import time
from collections.abc import Mapping, Sequence

import structlog

from hubbub.backoff import Backoff

log = structlog.get_logger(__name__)

STOP_SECONDS = 3.0


class Child:
    """One process, started again whenever it dies.

    Its standard input is a pipe that only we hold, so that it notices our end
    (`hubbub.lifeline`), however we end.
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
        """Keep it alive until cancelled; then stop it and wait for its end."""
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
                env=dict(self._env),
                start_new_session=True,  # the terminal's Ctrl-C is for us; we pass it on in order
            )
        except OSError as error:
            log.error("child_not_started", child=self._name, reason=str(error))
        else:
            log.info("child_started", child=self._name, pid=self._process.pid)
            status = await self._process.wait()
            if self._stopping:
                return
            log.error("child_ended", child=self._name, status=status)
        await asyncio.sleep(self._backoff.pause_after(time.monotonic() - started))

    async def _stop(self) -> None:
        self.ask_to_stop()
        if self._process is None:
            return
        try:
            async with asyncio.timeout(self._stop_seconds):
                await self._process.wait()
        except TimeoutError:
            log.warning("child_killed", child=self._name, after_seconds=self._stop_seconds)
            self._process.kill()
            await self._process.wait()
