"""The URLs of a bus: its servers, and the user and password, which must not be shown."""

import re
import ssl
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit


def tls_context(url: str, ca: Path | None) -> ssl.SSLContext | None:
    """How to speak TLS; None where neither ``tls://`` nor a CA asks for it.

    Raises:
        BadAddress: the CA can't be read.
    """
    if ca is None and "tls://" not in url:
        return None
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:  # as ssl.SSLError is
        raise BadAddress(f"cannot read the CA in {str(ca)!r}: {error.strerror or error}") from None


_USER_INFO = re.compile(r"(^|,)(\w+://)?(?:(?!,\w+://).)*@", re.DOTALL)


class BadAddress(ValueError):
    """Not an address of a bus: the process must not start. Its text holds no password."""


def sign_in(servers: Sequence[str]) -> tuple[str | None, str | None]:
    """The user and password that a URL names, for all servers; nothing if none names both.

    Servers tell of others of their cluster, and their URLs name nobody.
    """
    for server in servers:
        try:
            parts = urlsplit(server)
        except ValueError:
            continue  # connecting to it will say so
        if parts.username and parts.password:
            return unquote(parts.username), unquote(parts.password)
    return None, None


def without_passwords(url: str) -> str:
    """The URL, or several with commas between them, as far as it is no secret.

    The URL may be malformed: then rather a host is cut off than a piece of a password shown.
    """
    return _USER_INFO.sub(r"\1\2", url)
