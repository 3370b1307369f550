"""A browser and the SDK for the page of the quick start."""

from tests.browser.conftest import browser as browser
from tests.examples.conftest import sdk as sdk
