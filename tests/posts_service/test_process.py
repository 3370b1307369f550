"""The service as a process: it listens, answers, and goes when told to."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from shared.sql.migrations import migrate
from tests.fixtures import plain_http
from tests.fixtures.ports import free_ports
from tests.posts_service.callers import HMAC_SECRET, a_token
from tests.system.processes import until_alive

DEADLINE_SECONDS = 20


def test_sigterm_ends_the_process_with_0_even_without_a_bus(
    tmp_path: Path, sqlite_url: str
) -> None:
    asyncio.run(migrate(sqlite_url, "posts_service"))
    port = free_ports()
    environment = {
        **os.environ,
        "HUBBUB_DATABASE_URL": sqlite_url,
        "HUBBUB_NATS_URL": f"nats://127.0.0.1:{free_ports()}",
        "HUBBUB_HMAC_SECRET": HMAC_SECRET,
    }
    main = f"from posts_service.__main__ import main; main('127.0.0.1', {port})"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", main], env=environment, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        until_alive(process, url)
        token = a_token(1, "Ada")
        answer = plain_http.get(f"{url}/posts", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 503  # nobody has told it of the revocations

        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=DEADLINE_SECONDS) == 0
    finally:
        process.kill()
        process.wait()
    written = (tmp_path / "log").read_text()
    assert "Traceback" not in written
    assert token not in written
