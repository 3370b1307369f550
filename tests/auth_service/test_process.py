"""The service as a process: it listens, answers, and goes when told to."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from shared.sql.migrations import migrate
from tests.auth_service.people import PASSWORD, SIGNING_KEY, bearer
from tests.fixtures import plain_http
from tests.fixtures.ports import free_ports
from tests.system.processes import until_alive

DEADLINE_SECONDS = 20


def test_it_serves_without_a_bus_ends_with_0_and_logs_no_secret(
    tmp_path: Path, sqlite_url: str
) -> None:
    asyncio.run(migrate(sqlite_url, "auth_service"))
    key = tmp_path / "key.pem"
    key.write_text(SIGNING_KEY)
    port = free_ports()
    environment = {
        **os.environ,
        "HUBBUB_DATABASE_URL": sqlite_url,
        "HUBBUB_NATS_URL": f"nats://127.0.0.1:{free_ports()}",
        "HUBBUB_AUTH_SIGNING_KEY_FILE": str(key),
    }
    main = f"from auth_service.__main__ import main; main('127.0.0.1', {port})"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", main], env=environment, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        until_alive(process, url)
        account = {"email": "ann@example.com", "name": "Ann", "password": PASSWORD}
        assert plain_http.post(f"{url}/auth/register", json=account).status_code == 201
        form = {"username": "ann@example.com", "password": PASSWORD}
        tokens = plain_http.post(f"{url}/auth/token", data=form).json()
        wrong = form | {"password": "incorrect horse"}
        assert plain_http.post(f"{url}/auth/token", data=wrong).status_code == 401
        refreshing = {"refresh_token": tokens["refresh_token"]}
        for status in (200, 401):
            answer = plain_http.post(f"{url}/auth/token/refresh", json=refreshing)
            assert answer.status_code == status
        me = plain_http.get(f"{url}/auth/me", headers=bearer(tokens["access_token"]))
        assert me.status_code == 401

        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=DEADLINE_SECONDS) == 0
    finally:
        process.kill()
        process.wait()
    written = (tmp_path / "log").read_text()
    assert "refresh_token_reused" in written
    assert "Traceback" not in written
    for secret in (PASSWORD, "incorrect horse", *map(str, tokens.values())):
        if len(secret) > 6:
            assert secret not in written
