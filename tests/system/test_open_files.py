"""A gateway that a shell starts with few files may hold many connections all the same."""

import resource
from collections.abc import Iterator

import psutil
import pytest

from tests.system.conftest import SECRET
from tests.system.processes import Processes, until

FEW = 200


@pytest.fixture
def hard_limit() -> Iterator[int]:
    """What may be had; processes that are started meanwhile begin with few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, hard))
    try:
        yield hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="psutil tells it on Linux only")
def test_a_gateway_takes_all_the_open_files_that_it_may_have(
    processes: Processes, hard_limit: int
) -> None:
    gateway = processes.service("gateway", env={"HUBBUB_HMAC_SECRET": SECRET})

    limits = psutil.Process(gateway.process.pid).rlimit

    until(lambda: limits(psutil.RLIMIT_NOFILE) == (hard_limit, hard_limit), why=gateway.log)
