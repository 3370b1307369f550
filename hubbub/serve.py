"""`hubbub auth|posts|gateway`: one service, from the environment's settings."""

from importlib import import_module

from hubbub.lifeline import stop_with_stdin as watch_parent

PACKAGES = {"auth": "auth_service", "posts": "posts_service", "gateway": "gateway"}


def serve_service(service: str, host: str, port: int, *, stop_with_stdin: bool) -> None:
    """Serve until SIGTERM or SIGINT, or until standard input ends if that is asked for."""
    if stop_with_stdin:
        watch_parent()
    import_module(f"{PACKAGES[service]}.__main__").main(host, port)  # one need not load the others
