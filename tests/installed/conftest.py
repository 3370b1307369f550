"""Wheels of this checkout, and empty environments into which they are installed.

All comes from what lies on this machine since its own environment was made: no index is asked.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from packaging.requirements import Requirement

from tests.fixtures.skipping import skip

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
INSTALL_SECONDS = 60
ALONE = MappingProxyType({"PYTHONPATH": "", "PYTHONPYCACHEPREFIX": ""})
"""Neither this environment's modules, nor its folder of bytecode, which would grow at each run."""
OFFLINE = MappingProxyType({"UV_OFFLINE": "1"})


def run_uv(*arguments: str, **env: str) -> str:
    """What it prints; its failure fails the test with what it says."""
    inherited = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    done = subprocess.run(
        ["uv", *arguments],
        cwd=ROOT,
        env=inherited | ALONE | env,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's, beside the client's; made from source distributions, so these are complete."""
    if shutil.which("uv") is None:
        skip("there is no uv")
    folder = tmp_path_factory.mktemp("dist")
    run_uv("build", "--all-packages", "--out-dir", str(folder), **OFFLINE)
    [built] = folder.glob("hubbub-[0-9]*.whl")
    return built


class Installed:
    """An environment in which nothing is but the wheel and what that needs."""

    def __init__(self, home: Path, wheel: Path, requirement: str) -> None:
        """The versions of what it needs are those of this environment."""
        self._folder = home
        chosen = [f"--extra={extra}" for extra in Requirement(requirement).extras]
        only_what_it_needs = ("--no-default-groups", "--no-install-workspace")
        own: Mapping[str, str] = {**OFFLINE, "UV_PROJECT_ENVIRONMENT": str(home)}
        python = f"--python={sys.executable}"
        run_uv("sync", "--frozen", python, *only_what_it_needs, *chosen, **own)
        # By the wheel's own list of what it needs, of which all has to be there.
        place = ("--python", str(home), "--no-index", "--find-links", str(wheel.parent))
        run_uv("pip", "install", *place, requirement, **OFFLINE)

    @property
    def hubbub(self) -> Path:
        return self._folder / "bin" / "hubbub"


@pytest.fixture(scope="session")
def embedded(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """As the README says."""
    [requirement] = re.findall(r"^pip install '(.*)'$", README, re.MULTILINE)
    return Installed(tmp_path_factory.mktemp("embedded"), wheel, requirement)


@pytest.fixture(scope="session")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Without the extra."""
    return Installed(tmp_path_factory.mktemp("bare"), wheel, "hubbub")
