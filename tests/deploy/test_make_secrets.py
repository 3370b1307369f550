"""The job that makes what is missing of secrets."""

import json
import re
import ssl
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from sqlalchemy import make_url

from deploy.secrets.make_secrets import BUS_USERS, Store, make_secrets
from hubbub_client.nats.address import credentials_of

ODD = "pa'ss \"%@/:?#\\ word"


def _make(
    folder: Path,
    given: Path | None = None,
    *,
    nats: Sequence[str] = ("nats:4222",),
    tls: bool = False,
) -> None:
    store = Store(folder, given or folder / "none given")
    make_secrets(store, nats=nats, postgres="postgres:5432", tls=tls)


def _files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def _handshake(authority: Path, certificate: Path, key: Path, name: str) -> None:
    """Let a client that believes the authority meet a server with that certificate."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        server.wrap_bio(to_server, to_client, server_side=True),
        ssl.create_default_context(cafile=authority).wrap_bio(
            to_client, to_server, server_hostname=name
        ),
    ]
    for _ in range(4):  # flights of a handshake
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


def test_what_is_there_stays(tmp_path: Path) -> None:
    _make(tmp_path, tls=True)
    before = _files(tmp_path)
    _make(tmp_path, tls=True)

    assert _files(tmp_path) == before


def test_no_two_passwords_are_alike(tmp_path: Path) -> None:
    _make(tmp_path)

    passwords = [text for name, text in _files(tmp_path).items() if name.endswith("password")]

    assert len(passwords) == len(BUS_USERS) + 4
    assert len(set(passwords)) == len(passwords)


def test_nobody_but_their_owner_and_its_group_reads_them(tmp_path: Path) -> None:
    _make(tmp_path, tls=True)

    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in _files(tmp_path)}

    assert modes == {0o440}


def test_what_the_operator_gives_comes_before_what_is_there(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    _make(tmp_path / "volumes")
    (given / "nats_gateway_password").write_text(ODD)
    (given / "postgres_posts_password").write_text(f"{ODD}\n")
    _make(tmp_path / "volumes", given)

    gateway = (tmp_path / "volumes/gateway/nats_url").read_text().strip()
    posts = make_url((tmp_path / "volumes/posts/database_url").read_text().strip())
    [for_nats] = re.findall(
        "GATEWAY_PASSWORD: (.*)", (tmp_path / "volumes/nats/passwords.conf").read_text()
    )

    assert credentials_of([gateway]) == ("gateway", ODD)
    assert json.loads(for_nats) == ODD
    assert (posts.username, posts.password, posts.database) == ("posts", ODD, "posts")
    assert (tmp_path / "volumes/postgres/posts_password").read_text() == f"{ODD}\n"


def test_an_empty_file_is_no_secret(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    (given / "api_key").touch()

    with pytest.raises(SystemExit, match="api_key"):
        _make(tmp_path / "volumes", given)


def test_everybody_is_told_of_all_servers(tmp_path: Path) -> None:
    _make(tmp_path, nats=["nats-1:4222", "nats-2:4222"])

    url = (tmp_path / "posts/nats_url").read_text().strip()
    routes = (tmp_path / "nats/routes.conf").read_text()

    assert re.fullmatch(r"nats://posts:\S+@nats-1:4222,nats://posts:\S+@nats-2:4222", url)
    assert re.findall(r"@(nats-\d:\d+)", routes) == ["nats-1:6222", "nats-2:6222"]


@pytest.mark.parametrize("name", ["nats-1", "nats-2"])
def test_clients_believe_the_certificate_under_the_names_of_all_servers(
    tmp_path: Path, name: str
) -> None:
    _make(tmp_path, nats=["nats-1:4222", "nats-2:4222"], tls=True)
    nats = tmp_path / "nats"

    assert (tmp_path / "posts/nats_url").read_text().startswith("tls://")
    _handshake(tmp_path / "posts/nats_ca.pem", nats / "server.pem", nats / "server.key", name)


def test_nobody_believes_the_certificate_under_another_name(tmp_path: Path) -> None:
    _make(tmp_path, tls=True)
    nats = tmp_path / "nats"

    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(nats / "ca.pem", nats / "server.pem", nats / "server.key", "elsewhere")


def test_a_further_server_gets_a_certificate_that_names_it(tmp_path: Path) -> None:
    _make(tmp_path, nats=["nats-1:4222"], tls=True)
    _make(tmp_path, nats=["nats-1:4222", "nats-2:4222"], tls=True)

    certificate = x509.load_pem_x509_certificate((tmp_path / "nats/server.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    assert names.get_values_for_type(x509.DNSName) == ["nats-1", "nats-2"]


def test_certificates_are_given_whole_or_not_at_all(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    (given / "nats_server.pem").write_text("a certificate")

    with pytest.raises(SystemExit, match=r"without nats_ca.pem, nats_server.key$"):
        _make(tmp_path / "volumes", given, tls=True)


def test_given_certificates_are_handed_on(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    for part in ("ca.pem", "server.pem", "server.key"):
        (given / f"nats_{part}").write_text(f"the operator's {part}\n")
    _make(tmp_path / "volumes", given, tls=True)

    assert (tmp_path / "volumes/nats/server.key").read_text() == "the operator's server.key\n"
    assert (tmp_path / "volumes/auth/nats_ca.pem").read_text() == "the operator's ca.pem\n"
    assert not (tmp_path / "volumes/auth/server.key").exists()
