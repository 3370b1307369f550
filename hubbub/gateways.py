"""Gateways as processes of their own: `up --gateways` and `gateway --workers` start them alike."""

import sys
from collections.abc import Mapping
from pathlib import Path

from hubbub.children import Child

STOP_GRACE_SECONDS = 0.8
"""What a gateway may take to stop beside its drain; the whole command may take 1 s."""


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
        env: All of its environment.
        worker: Its place among the workers of a port that we have reserved.
    """
    command = [sys.executable, "-m", "hubbub", "gateway", "--host", host, "--port", str(port)]
    command += ["--child"] if worker is None else ["--child", "--worker", str(worker)]
    return Child(name, command, env, stop_seconds=drain_seconds + STOP_GRACE_SECONDS)
