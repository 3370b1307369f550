"""Gateways as child processes, for `up --gateways` and `gateway --workers`."""

import sys
from collections.abc import Mapping
from pathlib import Path

from hubbub.children import Child

STOP_GRACE_SECONDS = 4.8
"""What a gateway may take to stop after its drain; the whole command has 5 s. A bus that hangs
takes 0.75 s of that, on a machine that has nothing else to do."""


def gateway_child(
    name: str,
    host: str,
    port: int,
    *,
    env: Mapping[str, str],
    drain_seconds: float,
    worker: Path | None = None,
) -> Child:
    """A gateway that is kept alive.

    Args:
        env: Its whole environment.
        worker: For a worker on a reserved port: its own path, see `gateway.siblings`.
    """
    # -P: what lies in the folder where it was started is not ours, whatever its name.
    command = [sys.executable, "-P", "-m", "hubbub", "gateway"]
    command += ["--host", host, "--port", str(port)]
    # Beside `up`, which logs for the console, so does it.
    command += ["--child", *(["--console"] if worker is None else ["--worker", str(worker)])]
    return Child(name, command, env, stop_seconds=drain_seconds + STOP_GRACE_SECONDS)
