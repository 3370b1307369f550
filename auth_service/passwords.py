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

from auth_service.turns import Lane, Turns

log = structlog.get_logger(__name__)

Result = TypeVar("Result")


class Passwords:
    """Hashes and checks, so many at a time. Made by `hashing_passwords`."""

    def __init__(
        self,
        hasher: PasswordHasher,
        executor: ThreadPoolExecutor,
        turns: Turns,
        *,
        nobodys_hash: str,
    ) -> None:
        self._hasher = hasher
        self._executor = executor
        self._turns = turns
        self._nobodys_hash = nobodys_hash

    def refuse_if_full(self, lane: Lane, address: str) -> None:
        """
        Raises:
            TooBusy: a password could not even wait to be hashed.
        """
        self._turns.refuse_if_full(lane, address)

    async def hash(self, password: str, *, lane: Lane, address: str) -> str:
        """
        Raises:
            TooBusy: no thread came free in time.
        """
        return await self._in_thread(lane, address, lambda: self._hasher.hash(password))

    async def verify(self, password_hash: str | None, password: str, *, address: str) -> bool:
        """Whether it is the password; without a hash it is not, which takes as long to find out.

        Raises:
            TooBusy: no thread came free in time.
        """
        checked = password_hash or self._nobodys_hash
        return await self._in_thread(
            Lane.SIGNING_IN, address, lambda: self._matches(checked, password)
        )

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

    async def _in_thread(self, lane: Lane, address: str, work: Callable[[], Result]) -> Result:
        async with self._turns.turn(lane, address):
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)


@asynccontextmanager
async def hashing_passwords(
    hasher: PasswordHasher, *, threads: int, max_waiting: int, wait_seconds: float
) -> AsyncGenerator[Passwords]:
    """The threads, until the end.

    Args:
        threads: How many passwords are hashed at a time.
        max_waiting: Places before them, of those who sign in and of those who register.
        wait_seconds: For a free thread.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="argon2") as executor:
        nobodys_hash = await asyncio.get_running_loop().run_in_executor(
            executor, hasher.hash, secrets.token_urlsafe()
        )
        turns = Turns(threads, max_waiting=max_waiting, wait_seconds=wait_seconds)
        yield Passwords(hasher, executor, turns, nobodys_hash=nobodys_hash)
