"""A browser for the examples' pages, and the SDK that they load."""

import pytest

from tests.browser.conftest import browser as browser
from tests.sdk.javascript import need_packages


@pytest.fixture(scope="session")
def sdk() -> None:
    """Skips without the SDK, unless nothing may be skipped."""
    need_packages()


@pytest.fixture
def complaints() -> list[str]:
    """What pages say in the console that is an error."""
    return []
