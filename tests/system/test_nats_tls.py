"""A bus that is spoken to in TLS and in no other way."""

import re
from pathlib import Path

from tests.fixtures import plain_http
from tests.fixtures.certificates import Authority
from tests.fixtures.nats import NatsServer, StartServer
from tests.hubbub.test_cli import assert_fails_with, hubbub
from tests.system.conftest import SECRET, assert_no_secrets_and_no_tracebacks
from tests.system.processes import HubbubProcess, Processes, until

PASSWORD = "sesame/+open"
SIGNS_IN = "me:sesame%2F%2Bopen"
USERS = f'authorization {{ user: me, password: "{PASSWORD}" }}\ntrace: true\n'


def _start_server(nats_server: StartServer, authority: Authority, host: str) -> NatsServer:
    certificate, key = authority.sign(host)
    return nats_server(f'{USERS} tls {{ cert_file: "{certificate}", key_file: "{key}" }}')


def _gateway(processes: Processes, url: str, ca: Path | None) -> HubbubProcess:
    trusting = {} if ca is None else {"HUBBUB_NATS_CA": str(ca)}
    environment = {"HUBBUB_NATS_URL": url, "HUBBUB_HMAC_SECRET": SECRET}
    return processes.service("gateway", env=environment | trusting)


def _attempts(server: NatsServer) -> set[str]:
    """The connections of clients that the server logged anything of."""
    return set(re.findall(r"- cid:\d+ - ", server.log))


def _assert_refuses(gateway: HubbubProcess, server: NatsServer, reason: str) -> None:
    """It says why, once, stays unready, and has told nobody its password."""
    until(lambda: len(_attempts(server)) >= 3, why="it tries again")
    answer = plain_http.get(f"{gateway.url}/readyz")

    assert answer.status_code == 503
    assert "the bus is not connected" in answer.json()["detail"]
    assert gateway.log.count(reason) == 1, gateway.log
    assert "[CONNECT" not in server.log
    assert "sesame" not in gateway.log
    assert_no_secrets_and_no_tracebacks(gateway.log)
    assert gateway.stop() == 0


def test_a_gateway_serves_over_tls_that_an_authority_of_ones_own_signed_for(
    processes: Processes, nats_server: StartServer, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "ca")
    server = _start_server(nats_server, authority, "localhost")
    url = f"tls://{SIGNS_IN}@localhost:{server.port}"

    gateway = _gateway(processes, url, authority.certificate)
    done = hubbub("bootstrap", HUBBUB_NATS_URL=url, HUBBUB_NATS_CA=str(authority.certificate))

    assert done.returncode == 0, done.stderr
    gateway.until_ready()
    assert gateway.stop() == 0


def test_an_authority_that_is_not_known_is_refused(
    processes: Processes, nats_server: StartServer, tmp_path: Path
) -> None:
    server = _start_server(nats_server, Authority(tmp_path / "ca"), "localhost")
    other = Authority(tmp_path / "other", "Another CA")
    url = f"nats://{SIGNS_IN}@localhost:{server.port}"

    gateway = _gateway(processes, url, other.certificate)

    _assert_refuses(gateway, server, "certificate verify failed")


def test_a_certificate_of_another_host_is_refused(
    processes: Processes, nats_server: StartServer, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "ca")
    server = _start_server(nats_server, authority, "nats.example")
    url = f"tls://{SIGNS_IN}@localhost:{server.port}"

    gateway = _gateway(processes, url, authority.certificate)

    _assert_refuses(gateway, server, "Hostname mismatch")


def test_a_server_without_tls_is_told_no_password(
    processes: Processes, nats_server: StartServer, tmp_path: Path
) -> None:
    server = nats_server(f"debug: true\n{USERS}")

    gateway = _gateway(processes, f"tls://{SIGNS_IN}@localhost:{server.port}", None)

    _assert_refuses(gateway, server, "the server does not offer TLS")


def test_a_ca_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    garbage = tmp_path / "ca.pem"
    garbage.write_text("no certificate")
    for ca in (garbage, tmp_path / "nowhere.pem"):
        done = hubbub("gateway", "--port", "0", HUBBUB_NATS_CA=str(ca), HUBBUB_HMAC_SECRET=SECRET)

        assert_fails_with(done, f"cannot read the CA in '{ca}': ")
