"""Hashing passwords with Argon2id, in threads: a hash takes a tenth of a second."""

import asyncio
import secrets
import unicodedata
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import NamedTuple, TypeVar

import structlog
from argon2 import PasswordHasher
from argon2.exceptions import HashingError, InvalidHashError, VerificationError

from auth_service.hash_queue import HashQueue, Lane
from shared.runtime.environment import WrongSettings

log = structlog.get_logger(__name__)

Result = TypeVar("Result")


class Checked(NamedTuple):
    """The result of a check."""

    matches: bool
    new_hash: str | None
    """To be stored instead, if the old hash was made with other parameters."""


def normalised(password: str) -> str:
    """The password as it is hashed: the same in every Unicode form.

    Source: NIST SP 800-63B, of memorized secrets ("NFKC or NFKD … before hashing").
    """
    return unicodedata.normalize("NFKC", password)


class Passwords:
    """Hashes and checks passwords, a bounded number at a time. Made by `hashing_passwords`."""

    def __init__(
        self,
        hasher: PasswordHasher,
        executor: ThreadPoolExecutor,
        queue: HashQueue,
        *,
        dummy_hash: str,
    ) -> None:
        self._hasher = hasher
        self._executor = executor
        self._queue = queue
        self._dummy_hash = dummy_hash

    def refuse_if_full(self, lane: Lane, address: str) -> None:
        """
        Raises:
            TooBusy: the queue for hashing is full.
        """
        self._queue.refuse_if_full(lane, address)

    async def hash(self, password: str, *, lane: Lane, address: str) -> str:
        """
        Raises:
            TooBusy: no thread came free in time.
        """
        return await self._in_thread(lane, address, lambda: self._hash(password))

    async def check(self, password_hash: str | None, password: str, *, address: str) -> Checked:
        """Whether it is the password. Without a hash the answer is no, and takes as long.

        Raises:
            TooBusy: no thread came free in time.
        """
        checked = password_hash or self._dummy_hash
        return await self._in_thread(
            Lane.SIGNING_IN, address, lambda: self._check(checked, password)
        )

    def _hash(self, password: str) -> str:
        return self._hasher.hash(normalised(password))

    def _check(self, password_hash: str, password: str) -> Checked:
        if self._matches(password_hash, normalised(password)):
            is_outdated = self._hasher.check_needs_rehash(password_hash)
            return Checked(True, self._hash(password) if is_outdated else None)
        # Old hashes were made without normalising.
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
        async with self._queue.slot(lane, address):
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)


@asynccontextmanager
async def hashing_passwords(
    hasher: PasswordHasher, *, threads: int, max_waiting: int, wait_seconds: float
) -> AsyncGenerator[Passwords]:
    """Start the threads; they end with the body.

    Args:
        threads: How many passwords are hashed at a time.
        max_waiting: Of sign-ins, and again of registrations.
        wait_seconds: For a free thread.

    Raises:
        WrongSettings: Argon2 can't be run so, as for lack of memory.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="argon2") as executor:
        try:
            dummy_hash = await asyncio.get_running_loop().run_in_executor(
                executor, hasher.hash, secrets.token_urlsafe()
            )
        except HashingError as error:
            raise WrongSettings([f"HUBBUB_AUTH_ARGON2_MEMORY_KIB: {error}"]) from error
        queue = HashQueue(threads, max_waiting=max_waiting, wait_seconds=wait_seconds)
        yield Passwords(hasher, executor, queue, dummy_hash=dummy_hash)
