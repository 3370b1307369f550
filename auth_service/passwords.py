"""Passwords are hashed by Argon2id, in threads of their own: a hash takes a tenth of a second."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

import structlog
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from shared.errors import Unavailable

log = structlog.get_logger(__name__)

Result = TypeVar("Result")


class TooBusy(Unavailable):
    """All threads that hash passwords are taken, and were for as long as we wait."""

    code = "too_busy"
    retry_after_seconds = 1

    def __init__(self) -> None:
        super().__init__("too many are signing in at once; try again in a moment")


class Passwords:
    """Hashes and checks, so many at a time. Made by `hashing_passwords`."""

    def __init__(
        self,
        hasher: PasswordHasher,
        executor: ThreadPoolExecutor,
        *,
        nobodys_hash: str,
        threads: int,
        wait_seconds: float,
    ) -> None:
        self._hasher = hasher
        self._executor = executor
        self._nobodys_hash = nobodys_hash
        self._free = asyncio.Semaphore(threads)
        self._wait_seconds = wait_seconds

    async def hash(self, password: str) -> str:
        """
        Raises:
            TooBusy: no thread came free in time.
        """
        return await self._in_thread(lambda: self._hasher.hash(password))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether it is the password; without a hash it is not, which takes as long to find out.

        Raises:
            TooBusy: no thread came free in time.
        """
        checked = password_hash or self._nobodys_hash
        return await self._in_thread(lambda: self._matches(checked, password))

    def is_outdated(self, password_hash: str) -> bool:
        """Whether we would hash it otherwise today."""
        return self._hasher.check_needs_rehash(password_hash)

    def _matches(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except VerificationError:
            return False
        except InvalidHashError:
            log.error("password_hash_unreadable")
            return False

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._free.acquire()
        except TimeoutError as error:
            raise TooBusy from error
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        finally:
            self._free.release()


@asynccontextmanager
async def hashing_passwords(
    hasher: PasswordHasher, *, threads: int, wait_seconds: float
) -> AsyncGenerator[Passwords]:
    """The threads, until the end.

    Args:
        threads: How many passwords are hashed at a time.
        wait_seconds: For a free thread.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="argon2") as executor:
        nobodys_hash = await asyncio.get_running_loop().run_in_executor(
            executor, hasher.hash, secrets.token_urlsafe()
        )
        yield Passwords(
            hasher,
            executor,
            nobodys_hash=nobodys_hash,
            threads=threads,
            wait_seconds=wait_seconds,
        )
