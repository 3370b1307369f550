"""Passwords are hashed by Argon2id, in threads of their own: a hash takes a tenth of a second."""

import asyncio
import secrets
import unicodedata
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import NamedTuple, TypeVar

import structlog
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from auth_service.turns import Lane, Turns

log = structlog.get_logger(__name__)

Result = TypeVar("Result")


class Checked(NamedTuple):
    """What became of a check."""

    matches: bool
    new_hash: str | None
    """To be kept in place of the one that was checked, which we would make otherwise today."""


def normalised(password: str) -> str:
    """The password as it is hashed: the same, whatever keyboard it was typed on.

    Source: NIST SP 800-63B, of memorized secrets ("NFKC or NFKD … before hashing").
    """
    return unicodedata.normalize("NFKC", password)


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
        return await self._in_thread(lane, address, lambda: self._hash(password))

    async def check(self, password_hash: str | None, password: str, *, address: str) -> Checked:
        """Whether it is the password; without a hash it is not, which takes as long to find out.

        Raises:
            TooBusy: no thread came free in time.
        """
        checked = password_hash or self._nobodys_hash
        return await self._in_thread(
            Lane.SIGNING_IN, address, lambda: self._check(checked, password)
        )

    def _hash(self, password: str) -> str:
        return self._hasher.hash(normalised(password))

    def _check(self, password_hash: str, password: str) -> Checked:
        if self._matches(password_hash, normalised(password)):
            is_outdated = self._hasher.check_needs_rehash(password_hash)
            return Checked(True, self._hash(password) if is_outdated else None)
        # Hashes were made of passwords as they were typed once.
        if normalised(password) != password and self._matches(password_hash, password):
            return Checked(True, self._hash(password))
        return Checked(False, None)

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
