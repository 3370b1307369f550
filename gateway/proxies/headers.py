"""Which headers the application is shown: the browser's own, and apart those a page made up.

A page can't set headers of a WebSocket, so the SDKs take some with the first command: these are
called emulated. Whoever wrote the page wrote them, so they get a name of their own, and are never
taken for what the browser or a proxy in front has sent.
"""

import re
from collections.abc import Iterable, Mapping

from gateway.proxy_settings import EMULATED_PREFIX

Headers = tuple[tuple[bytes, bytes], ...]

NO_HEADERS: Headers = ()

_VALUE = re.compile(r"[\t -~]*")
_MAX_EMULATED_CHARS = 4096


class HeaderRules:
    """Two lists, of names in whatever case."""

    def __init__(self, allowed: Iterable[str] = (), emulated: Iterable[str] = ()) -> None:
        self._allowed = frozenset(name.lower().encode() for name in allowed)
        self._emulated = {name.lower(): name for name in emulated}

    def of_request(self, headers: Iterable[tuple[bytes, bytes]]) -> Headers:
        """What is shown of a request's headers, whose names are in lower case."""
        if not self._allowed:
            return NO_HEADERS
        return tuple(header for header in headers if header[0] in self._allowed)

    def emulated(self, headers: Mapping[str, str]) -> Headers:
        """What is shown of those that came with the command; what is none is left out."""
        shown = []
        for name, value in headers.items():
            known = self._emulated.get(name.lower())
            if known is None or len(value) > _MAX_EMULATED_CHARS or not _VALUE.fullmatch(value):
                continue
            shown.append((f"{EMULATED_PREFIX}{known}".lower().encode(), value.encode()))
        return tuple(shown)
