"""Rewrite the pinned versions: resolve afresh, then pin the whole closure.

They stand in pyproject.toml for uv, and in tests/requirements.txt for whoever has only pip.

Usage: uv run --no-project tools/pin.py
"""

import json
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = ROOT / "pyproject.toml"
REQUIREMENTS = ROOT / "tests" / "requirements.txt"
BLOCK = re.compile(r"^constraint-dependencies = \[\n.*?\]\n", re.DOTALL | re.MULTILINE)
HEADER = "# The constraints of pyproject.toml, for pip. Refresh: just pin\n"


def pins(lines: list[str]) -> list[str]:
    """One constraint per package and marker, as `uv export` prints them."""
    return [line.strip() for line in lines if "==" in line and not line.startswith(("#", " "))]


def block(pinned: list[str]) -> str:
    """The constraints as pyproject.toml has them."""
    quoted = "".join(f"    {json.dumps(line)},\n" for line in pinned)
    return f"constraint-dependencies = [\n{quoted}]\n"


def main() -> None:
    text = PYPROJECT.read_text()
    PYPROJECT.write_text(BLOCK.sub("constraint-dependencies = [\n]\n", text))
    try:
        command = ["uv", "export", "--upgrade", "--all-groups", "--no-hashes", "--no-emit-project"]
        exported = subprocess.run(
            [*command, "--no-annotate", "--no-header", "--quiet"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.splitlines()
    except subprocess.CalledProcessError:
        PYPROJECT.write_text(text)
        raise
    pinned = pins(exported)
    PYPROJECT.write_text(BLOCK.sub(lambda _: block(pinned), text))
    REQUIREMENTS.write_text(HEADER + "".join(f"{line}\n" for line in pinned))


if __name__ == "__main__":
    main()
