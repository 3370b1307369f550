"""A browser for the examples' pages, and the SDK that they load."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.conftest import browser as browser
from tests.examples.pages import Example, opened_page
from tests.sdk.javascript import need_packages


@pytest.fixture(scope="session")
def sdk() -> None:
    """Skips without the SDK, unless nothing may be skipped."""
    need_packages()


@pytest.fixture
def complaints() -> list[str]:
    """What pages say in the console that is an error."""
    return []


@pytest.fixture
def page(browser: Browser, example: Example, complaints: list[str]) -> Iterator[Page]:
    """Of the example that the module starts."""
    with opened_page(browser, example.application.url, complaints) as page:
        yield page


@pytest.fixture
def other(browser: Browser, example: Example, complaints: list[str]) -> Iterator[Page]:
    """Another browser's."""
    with opened_page(browser, example.application.url, complaints) as page:
        yield page
