"""A real Chromium, and a whole system for it to look at."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.fixtures.skipping import skip
from tests.system.processes import HubbubProcess, processes_in

expect.set_options(timeout=30_000)  # a machine that runs the whole system may be busy

PLAIN_HOST = "hubbub.test"
"""Where the page is no secure context, as on any host but this one without TLS."""
WITHOUT = (
    # What Playwright does without. Chromium heeds the last such list only.
    "AimEnabled", "AvoidCorsURLLoaderRestartOnRedirect", "AvoidUnnecessaryBeforeUnloadCheckSync",
    "DestroyProfileOnBrowserClose", "HttpsFirstBalancedModeAutoEnable", "HttpsUpgrades",
    "LensOverlay", "MediaRouter", "NetworkTimeServiceQuerying", "OptimizationHints",
    "PaintHolding", "PreconnectToSearch", "ThirdPartyStoragePartitioning",
    # Pages of Chromium's own that each window loads beside ours: half of all its work.
    "WebUIOmniboxAimPopup", "WebUIOmniboxPopup",
    # A process in store for the next page.
    "SpareRendererForSitePerProcess",
)  # fmt: skip
QUIET = (  # what Chromium would ask of the internet
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    f"--host-resolver-rules=MAP {PLAIN_HOST} 127.0.0.1", f"--disable-features={','.join(WITHOUT)}",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's own Chromium; skips where there is none, unless nothing may be skipped.

    For these tests alone: while it lives, its event loop counts as running in this thread.
    """
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        skip("there is no Chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture
def hubbub(tmp_path: Path) -> Iterator[HubbubProcess]:
    with processes_in(tmp_path) as processes:
        up = processes.up()
        up.until_ready()
        yield up
