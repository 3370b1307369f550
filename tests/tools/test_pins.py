"""The pinned versions are the same for uv and for pip."""

import tomllib
from pathlib import Path

from tools.pin import BLOCK, block

ROOT = Path(__file__).parent.parent.parent
PYPROJECT = (ROOT / "pyproject.toml").read_text()


def test_what_pip_installs_for_the_tests_is_what_uv_pins() -> None:
    pinned = tomllib.loads(PYPROJECT)["tool"]["uv"]["constraint-dependencies"]
    lines = (ROOT / "tests" / "requirements.txt").read_text().splitlines()

    assert [line for line in lines if not line.startswith("#")] == pinned


def test_pinning_anew_changes_the_closure_and_nothing_else() -> None:
    uv = tomllib.loads(PYPROJECT)["tool"]["uv"]

    anew = tomllib.loads(BLOCK.sub(lambda _: block(["one==1"]), PYPROJECT))

    expected = tomllib.loads(PYPROJECT)
    expected["tool"]["uv"] = uv | {"constraint-dependencies": ["one==1"]}
    assert anew == expected
