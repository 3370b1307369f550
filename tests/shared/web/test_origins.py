"""Whose pages may talk to us from a browser."""

import pytest
from fastapi import FastAPI
from httpx2 import ASGITransport, AsyncClient

from shared.web.http import install_edge
from shared.web.origins import Origins


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://example.com", "example.com"),
        ("https://Example.com", "example.COM:443"),
        ("https://example.com:443", "example.com"),
        ("http://example.com:8000", "example.com:8000"),
        ("http://[2001:db8::1]:8000", "[2001:db8::1]:8000"),
        ("http://[2001:db8::1]", "[2001:db8::1]:80"),
        ("http://localhost:5173", "localhost:8000"),
        ("http://localhost:5173", "127.0.0.1:8000"),
        ("http://127.0.0.1", "[::1]:8000"),
        ("http://[::1]:1", "localhost"),
        ("https://app.localhost:5173", "localhost:8000"),
    ],
)
def test_a_page_of_the_host_that_it_asks_may_and_on_one_machine_one_of_another_port(
    origin: str, host: str
) -> None:
    assert Origins().allows(origin, host)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://evil.example", "example.com"),
        ("https://example.com.evil.example", "example.com"),
        ("https://example.com", "example.com:8000"),
        ("https://example.com:8000", "example.com"),
        ("http://example.com", "example.com:443"),
        ("https://localhost:5173", "example.com"),
        ("https://example.com", "localhost:8000"),
        ("https://localhost.evil.example", "localhost"),
        ("https://127.0.0.1.evil.example", "127.0.0.1"),
        ("https://notlocalhost", "localhost"),
        ("null", "null"),
        ("null", ""),
        ("", ""),
        ("file://", ""),
        ("chrome-extension://localhost", "localhost"),
        ("https://example.com, https://example.com", "example.com"),
    ],
)
def test_a_page_from_elsewhere_may_not(origin: str, host: str) -> None:
    assert not Origins().allows(origin, host)


@pytest.mark.parametrize(
    ("allowed", "origin", "may"),
    [
        ("https://example.com", "https://example.com", True),
        ("https://example.com", "https://EXAMPLE.com", True),
        ("https://example.com", "http://example.com", False),
        ("https://example.com", "https://example.com:444", False),
        ("https://example.com", "https://host", False),
        (" https://a , https://b ,", "https://b", True),
        ("https://*.example.com", "https://a.b.example.com", True),
        ("https://*.example.com", "https://example.com", False),
        ("https://*.example.com", "https://evil/.example.com", False),
        ("http://localhost:*", "http://localhost:5173", True),
        ("http://[::1]:5173", "http://[::1]:5173", True),
        ("capacitor://localhost", "capacitor://localhost", True),
        ("null", "null", True),
        ("*", "https://anything", True),
        ("*", "null", True),
    ],
)
def test_a_list_says_alone_who_may(allowed: str, origin: str, may: bool) -> None:
    assert Origins(allowed).allows(origin, "host") is may


@pytest.mark.parametrize(
    "allowed", ["example.com", "https://example.com/", "https://example.com/chat", "*.com", "://x"]
)
def test_what_is_no_origin_is_told(allowed: str) -> None:
    with pytest.raises(ValueError, match="no origin"):
        Origins(allowed)


def test_the_log_tells_of_a_few_refusals_in_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    now = 10.0
    origins = Origins(now=lambda: now)
    for _ in range(100):
        assert not origins.admit("https://" + "x" * 1000, "host", "/path")
    told = capsys.readouterr().out
    assert told.count("origin_refused") == 5
    assert "/path" in told
    assert "x" * 300 not in told
    now = 11.5
    origins.admit("https://evil", "host", "/path")
    assert "95" in capsys.readouterr().out, "that many were not told of"


def an_app(allowed: str = "") -> AsyncClient:
    app = FastAPI()
    install_edge(app, origins=Origins(allowed))

    @app.post("/posts", status_code=201)
    async def create() -> None: ...

    return AsyncClient(transport=ASGITransport(app), base_url="http://testserver")


PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, x-anything",
}


async def test_a_page_of_an_allowed_origin_may_read_answers() -> None:
    async with an_app("https://app.example") as client:
        headers = {"Origin": "https://app.example"}
        answer = await client.post("/posts", headers=headers)
        assert answer.status_code == 201
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
        assert "Origin" in answer.headers["Vary"]
        missing = await client.get("/nowhere", headers=headers)
        assert missing.headers["Access-Control-Allow-Origin"] == "https://app.example"

        asked = await client.options("/posts", headers=headers | PREFLIGHT)
        assert asked.is_success
        assert asked.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert "POST" in asked.headers["Access-Control-Allow-Methods"]
        assert asked.headers["Access-Control-Allow-Headers"] == "authorization, x-anything"
        assert asked.headers["Access-Control-Allow-Credentials"] == "true"
        assert asked.headers["Access-Control-Max-Age"] == "300"


async def test_a_page_of_another_origin_may_not_and_others_are_not_asked() -> None:
    async with an_app() as client:
        for headers in ({"Origin": "https://evil.example"}, {}):
            answer = await client.post("/posts", headers=headers)
            assert answer.status_code == 201, "it is answered as it was before there were pages"
            assert not [name for name in answer.headers if name.startswith("access-control")]
        asked = await client.options("/posts", headers={"Origin": "https://evil"} | PREFLIGHT)
        assert asked.status_code == 405
        assert not [name for name in asked.headers if name.startswith("access-control")]
