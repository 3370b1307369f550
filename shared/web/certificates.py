"""Whom this process trusts over HTTPS."""

import ssl
from functools import cache

import httpx2


@cache
def certificates() -> ssl.SSLContext:
    """Read once, since it takes some 30 ms; by itself every client would."""
    return httpx2.create_ssl_context()
