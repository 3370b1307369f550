"""The page at `/docs`, and what browsers are told of our pages."""

import re
from html.parser import HTMLParser
from pathlib import Path

import httpx2
import pytest

from shared.web.application import Application
from shared.web.page_headers import PAGE_HEADERS

CADDYFILE = (Path(__file__).parents[3] / "deploy/edge/Caddyfile").read_text()


class Sources(HTMLParser):
    """The addresses that a page loads, and the scripts that stand in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.inline: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if address := given.get("src") or given.get("href"):
            self.addresses.append(address)
        elif tag == "script":
            self.inline.append(tag)


def a_caller() -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(Application("a service"))
    return httpx2.AsyncClient(transport=transport, base_url="http://service")


async def test_all_that_the_page_loads_comes_from_its_own_server() -> None:
    async with a_caller() as caller:
        page = await caller.get("/docs")
        sources = Sources(page.text)
        loaded = [
            await caller.get(address)
            for address in sources.addresses
            if not address.startswith("data:")
        ]

    assert sources.inline == []
    assert len(loaded) == 3
    for answer in (page, *loaded):
        assert (answer.status_code, answer.url.host) == (200, "service")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self';" in policy
        assert "http" not in policy


async def test_there_is_no_page_of_fastapis_own() -> None:
    async with a_caller() as caller:
        for path in ("/redoc", "/docs/oauth2-redirect"):
            assert (await caller.get(path)).status_code == 404


@pytest.mark.parametrize("name", PAGE_HEADERS)
def test_a_page_has_the_headers_that_the_edge_sends(name: str) -> None:
    said = re.findall(rf"^\s*{name} \"?([^\"\n]+)\"?$", CADDYFILE, re.MULTILINE)

    assert said == [PAGE_HEADERS[name]]
