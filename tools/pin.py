"""Rewrite the pinned versions in pyproject.toml: resolve afresh, then pin the whole closure.

Usage: uv run --no-project tools/pin.py
"""

import json
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = ROOT / "pyproject.toml"
BLOCK = re.compile(r"constraint-dependencies = \[\n.*?\]\n", re.DOTALL)


def pin(lines: list[str]) -> str:
    """One constraint per package and marker, as `uv export` prints them."""
    pinned = [line.strip() for line in lines if "==" in line and not line.startswith(("#", " "))]
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
    PYPROJECT.write_text(BLOCK.sub(lambda _: pin(exported), text))


if __name__ == "__main__":
    main()
