"""`hubbub auth|posts|gateway`: one service, with the environment's settings."""

from importlib import import_module
from pathlib import Path

from hubbub.lifeline import stop_with_stdin, telling_parent

PACKAGES = {"auth": "auth_service", "posts": "posts_service", "gateway": "gateway"}


def serve_service(service: str, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    import_module(f"{PACKAGES[service]}.__main__").main(host, port)  # loads only this service


def serve_child(host: str, port: int, *, worker: Path | None, console: bool) -> None:
    """Serve as the child of the process that holds our standard input, and end when it does.

    Args:
        console: Log for people.
    """
    stop_with_stdin()
    with telling_parent():
        import_module("gateway.__main__").main(host, port, worker=worker, json=not console)
