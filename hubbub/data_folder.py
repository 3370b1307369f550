"""The data folder of `hubbub up`: its files, and the lock that keeps it to one process."""

import fcntl
import os
import secrets
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from hubbub.errors import CommandFailed

if TYPE_CHECKING:
    from sqlalchemy import URL

DEFAULT_PATH = Path(".hubbub")


class DataFolderInUse(CommandFailed):
    """Another process holds the folder."""


class Running(BaseModel):
    """How the other commands find the system that runs on a folder."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pid: int
    version: str = ""
    """Of Hubbub."""
    url: str
    gateways: tuple[str, ...] = ()
    """The origins of further ones."""
    nats_url: str
    """Without user and password; `DataFolder.bus_url_file` has those."""
    channels: dict[str, Any] = {}
    """What channels there are: the gateway's settings of them."""


class DataFolder:
    """Paths, keys and the lock. Nothing is written before `create`."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.nats = self.path / "nats"
        self.signing_key = self.path / "signing_key.pem"
        self._api_key = self.path / "api_key"
        self._running = self.path / "running.json"
        self._bus = self.path / "bus"

    @property
    def is_in_use(self) -> bool:
        """Whether another process has it now. Nothing is written: the folder may be read-only."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError):
            return False
        try:
            return not _locks(descriptor)
        finally:
            os.close(descriptor)

    def create(self) -> None:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise CommandFailed(f"cannot make {self.path}: {error.strerror}") from error
        if not any(self.path.iterdir()):
            # It will hold keys, and often lies in the repository of an application.
            write_private(self.path / ".gitignore", b"*\n")

    def database_url(self, service: str) -> "URL":
        from sqlalchemy import URL  # most commands need no database

        # Built from parts: a folder's name may have characters that are special in a URL.
        return URL.create("sqlite+aiosqlite", database=str(self.path / f"{service}.sqlite3"))

    @contextmanager
    def locked(self) -> Generator[None]:
        """Keep the folder for this process.

        Raises:
            DataFolderInUse: another process has it.
        """
        descriptor = take_lock(self.path / "lock")
        if descriptor is None:
            running = self.running()
            who = f" by process {running.pid} ({running.url})" if running else ""
            raise DataFolderInUse(f"the data folder {self.path} is in use{who}")
        try:
            self._running.unlink(missing_ok=True)  # of one that was killed
            yield
        finally:
            os.close(descriptor)

    @property
    def api_key_file(self) -> Path:
        """The file of the key of `/api`; made if there is none in it."""
        if not self._api_key.exists() or not self._api_key.read_bytes().strip():
            write_private(self._api_key, f"{secrets.token_urlsafe(32)}\n".encode())
        return self._api_key

    def bus_url_file(self, user: str) -> Path:
        """The file with the URL and password of that user of the bus, while the system runs."""
        return self._bus / f"{user}_url"

    @contextmanager
    def announced(self, running: Running, *, bus_urls: Mapping[str, str]) -> Generator[None]:
        """Let other commands find the system while the body runs.

        Args:
            bus_urls: The URL with password of each user of the bus.
        """
        self._bus.mkdir(mode=0o700, exist_ok=True)
        for user, url in bus_urls.items():
            write_private(self.bus_url_file(user), f"{url}\n".encode())
        write_private(self._running, running.model_dump_json().encode())
        try:
            yield
        finally:
            self._running.unlink(missing_ok=True)
            for user in bus_urls:
                self.bus_url_file(user).unlink(missing_ok=True)

    def running(self) -> Running | None:
        """The system that runs here, or ran until it was killed."""
        try:
            return Running.model_validate_json(self._running.read_bytes())
        except (OSError, ValidationError):
            return None


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, at once or not at all.

    Raises:
        OSError: always with the file's name, which the system leaves out on a full disk.
    """
    draft = path.with_name(f"{path.name}.new")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def take_lock(path: Path) -> int | None:
    """Lock the file and return its descriptor, or None if it is somebody else's.

    The lock belongs to the open file: a child that inherits the descriptor
    holds it too, until all of them have closed it or died.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    if not _locks(descriptor):
        os.close(descriptor)
        return None
    return descriptor


def _locks(descriptor: int) -> bool:
    """Lock the file, unless it is somebody else's."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
