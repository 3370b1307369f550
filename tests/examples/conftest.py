"""A browser for the examples' pages, and the SDK that they load."""

import pytest

from tests.browser.conftest import NOTHING_SKIPPED
from tests.browser.conftest import browser as browser
from tests.sdk.javascript import install_packages


@pytest.fixture(scope="session")
def sdk() -> None:
    """Skips without the SDK, unless nothing may be skipped."""
    problem = install_packages()
    if problem is not None:
        assert not NOTHING_SKIPPED, f"npm installs no SDK: {problem}"
        pytest.skip(f"npm installs no SDK: {problem}")
