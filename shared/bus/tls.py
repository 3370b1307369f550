"""Whether the bus is spoken to in TLS, and whose certificate is believed."""

import ssl
from pathlib import Path

from shared.bus.address import BadAddress


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
