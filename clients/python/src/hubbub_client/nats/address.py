"""The URL of the bus: its servers, and the user and password, which must not be shown."""

import ssl
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from hubbub_client.urls import without_passwords


def tls_context(url: str, ca: Path | None) -> ssl.SSLContext | None:
    """The TLS context; None if neither ``tls://`` nor a CA asks for TLS.

    Raises:
        BadAddress: the CA can't be read.
    """
    if ca is None and "tls://" not in url:
        return None
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:  # as ssl.SSLError is
        raise BadAddress(f"cannot read the CA in {str(ca)!r}: {error.strerror or error}") from None


class BadAddress(ValueError):
    """No server can be at the address, so the process must not start. The text has no password."""


def check_servers(url: str) -> str:
    """See that each of the addresses could be a server's.

    Raises:
        BadAddress: one can't.
    """
    for server in url.split(","):
        if not _is_address(server if "://" in server else f"nats://{server}"):
            unescaped = "; is a character of its password unescaped?" if "@" in server else ""
            raise BadAddress(
                f"{without_passwords(server)!r} is not the address of a NATS server, such as"
                f" nats://host:4222{unescaped}"
            )
    return url


def _is_address(server: str) -> bool:
    try:
        parts = urlsplit(server)
        names_more = parts.path not in ("", "/") or parts.query or parts.fragment
        is_server = parts.scheme in ("nats", "tls") and parts.hostname and parts.port != 0
        return bool(is_server) and not names_more
    except ValueError:  # of its port
        return False


def credentials_of(servers: Sequence[str]) -> tuple[str | None, str | None]:
    """The user and password in the first URL that has both; they are for all servers.

    Servers announce others of their cluster, by URLs without a user.
    """
    for server in servers:
        try:
            parts = urlsplit(server)
        except ValueError:
            continue  # connecting to it will fail with the reason
        if parts.username and parts.password:
            return unquote(parts.username), unquote(parts.password)
    return None, None
