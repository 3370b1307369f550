import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import jwt
import pytest

from auth_service.signing import make_signing_key
from hubbub.cli import MAX_GATEWAYS
from hubbub.data_folder import DataFolder
from shared.tokens.access_tokens import TokenVerifier
from shared.tokens.configured import own_issuer
from shared.tokens.jwk import read_signing_key, trusted_key
from shared.tokens.keys import FixedKeys
from tests.fixtures.commands import run_command

SECRET = "a secret of at least thirty-two bytes"
PUBLIC_KEY = "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----"


def hubbub(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command with these ``HUBBUB_`` variables and no others."""
    return run_command(*arguments, env=whole_environment(env))


def started_anew(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The same, by an interpreter that reads these variables too, and has loaded nothing."""
    return subprocess.run(
        [sys.executable, "-m", "hubbub", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=whole_environment(env),
        stdin=subprocess.DEVNULL,
    )


def whole_environment(env: Mapping[str, str]) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("HUBBUB_")}
    return {**inherited, **env}


def assert_fails_with(done: subprocess.CompletedProcess[str], sentence: str) -> None:
    """One line on stderr, and a status that is not 0."""
    assert done.returncode != 0
    assert done.stdout == ""
    assert_one_line(done.stderr, sentence)


def assert_one_line(stderr: str, sentence: str) -> None:
    assert stderr.startswith("Error: "), stderr
    assert stderr.count("\n") == 1, stderr
    assert sentence in stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-"])
def test_a_standard_stream_may_be_closed(closed: str) -> None:
    """As some daemons start processes; a socket must not get its number."""
    command = [sys.executable, "-m", "hubbub", "bootstrap", "--nats", "127.0.0.1:1"]
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *command],
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
        env=whole_environment({}),
    )

    assert done.returncode == 1
    assert_one_line(done.stderr, "does not answer")


@pytest.mark.parametrize("run", [hubbub, started_anew])
def test_it_tells_its_version(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    assert run("--version").stdout == "hubbub, version 0.1.0\n"


def test_publishing_where_nothing_runs_says_how_to_go_on(tmp_path: Path) -> None:
    done = hubbub("publish", "chat:a", "1", "--data", str(tmp_path))

    assert_fails_with(done, f"nothing runs on {tmp_path}: start `hubbub up`")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_failure_is_a_sentence_whatever_the_locale(tmp_path: Path, encoding: str) -> None:
    folder = tmp_path / os.fsdecode("jürgen…".encode() + b"\xfc")
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

    said_in = {"PYTHONIOENCODING": encoding}
    done = started_anew("tail", "chat:a", "--data", str(folder), **said_in, **locale)

    assert_fails_with(done, "start `hubbub up`")


def test_what_is_not_in_utf_8_is_a_sentence() -> None:
    done = hubbub("publish", "chat:a", os.fsdecode(b'"\xfc"'))

    assert done.returncode == 2
    assert "Error: Invalid value for '[JSON]': not in UTF-8\n" in done.stderr


def test_a_setting_is_read_as_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    (tmp_path / "secret").write_text("ein Geheimnis für zweiunddreißig Bytes", encoding="utf-8")
    by_name = {"HUBBUB_HMAC_SECRET_FILE": str(tmp_path / "secret")}
    by_value = {"HUBBUB_HMAC_SECRET": "ein Geheimnis für zweiunddreißig Bytes"}

    for env in (by_name, by_value):
        token = started_anew("token", "--user", "7", "--name", "Jürgen", **env, **locale)
        claims = jwt.decode(token.stdout.strip(), by_value["HUBBUB_HMAC_SECRET"], ["HS256"])
        assert claims["name"] == "Jürgen"


def test_a_bus_that_does_not_answer_is_named_without_its_password() -> None:
    done = hubbub("tail", "chat:a", "--nats", "nats://me:secret@127.0.0.1:1")

    assert_fails_with(done, "NATS at nats://127.0.0.1:1 does not answer: [Errno 111] ")
    assert "secret" not in done.stderr


def test_what_is_not_json_is_not_published(nats_url: str) -> None:
    done = hubbub("publish", "chat:a", "{", "--nats", nats_url)

    assert_fails_with(done, "cannot publish: not JSON")


@pytest.mark.parametrize("command", [("tail", "a b"), ("publish", "a b", "1")])
def test_what_is_no_channel_is_refused(command: tuple[str, ...], nats_url: str) -> None:
    assert_fails_with(hubbub(*command, "--nats", nats_url), "not 1-255 characters of")


def test_a_service_without_its_settings_names_them() -> None:
    assert_fails_with(started_anew("posts", "--port", "0"), "HUBBUB_DATABASE_URL: not set")


def test_a_service_on_a_taken_port_says_so(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        url = f"sqlite:///{tmp_path / 'posts'}"
        done = hubbub("posts", "--port", str(port), HUBBUB_DATABASE_URL=url)

    assert_fails_with(done, f"cannot listen on 127.0.0.1:{port}: Address already in use")


@pytest.mark.parametrize("service", ["auth", "posts", "gateway", "up"])
def test_a_taken_port_is_told_before_the_services_are_loaded(service: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "hubbub", service, "--port", str(port)],
            capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
        )  # fmt: skip

    said = done.stderr.splitlines()
    assert f"Error: cannot listen on 127.0.0.1:{port}: Address already in use" in said
    loaded = {line.rpartition("|")[2].strip() for line in said if line.startswith("import time:")}
    assert loaded & {"shared.runtime.listening", "fastapi", "sqlalchemy", "nats"} == {
        "shared.runtime.listening"
    }


@pytest.mark.parametrize("module", ["hubbub.workers", "hubbub.lifeline", "hubbub.bootstrap"])
def test_what_needs_no_database_loads_none(module: str) -> None:
    loaded = f"import {module}, gateway.__main__, sys; print('sqlalchemy' in sys.modules)"

    done = subprocess.run(
        [sys.executable, "-c", loaded], capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout == "False\n"


def test_workers_on_a_taken_port_say_so() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = hubbub("gateway", "--workers", "2", "--port", str(port), HUBBUB_HMAC_SECRET=SECRET)

    assert_fails_with(done, f"cannot listen on 127.0.0.1:{port}: Address already in use")


@pytest.mark.parametrize("count", [0, -1, MAX_GATEWAYS + 1])
def test_a_number_of_workers_that_cannot_be_is_refused(count: int) -> None:
    done = hubbub("gateway", "--workers", str(count), HUBBUB_HMAC_SECRET=SECRET)

    assert (done.returncode, done.stdout) == (2, "")
    sentence = f"'--workers': {count} is not in the range 1<=x<={MAX_GATEWAYS}."
    assert done.stderr.splitlines()[-1] == f"Error: Invalid value for {sentence}"


@pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
def test_where_others_reach_it_a_gateway_does_not_start_without_permissions(
    workers: list[str],
) -> None:
    env = {"HUBBUB_HMAC_SECRET": SECRET, "HUBBUB_GATEWAY_CLIENT_INSECURE": "true"}
    done = hubbub("gateway", "--host", "0.0.0.0", "--port", "0", *workers, **env)

    assert_fails_with(done, "HUBBUB_GATEWAY_CLIENT_INSECURE: only with --host on loopback")


def test_workers_with_a_bad_setting_are_not_started() -> None:
    env = {"HUBBUB_HMAC_SECRET": SECRET, "HUBBUB_GATEWAY_DRAIN_SECONDS": "-1"}
    done = hubbub("gateway", "--workers", "2", "--port", "0", **env)

    assert_fails_with(done, "HUBBUB_GATEWAY_DRAIN_SECONDS: ")


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("HUBBUB_GATEWAY_NAMESPACES", '{"a:b": {}}', "no channel begins with 'a:b'"),
        ("HUBBUB_HMAC_SECRET", "", "empty: anybody could sign with it"),
        ("HUBBUB_HMAC_SECRET", PUBLIC_KEY, "a public key, which anybody has"),
    ],
)
def test_the_gateway_and_the_check_of_its_configuration_refuse_the_same(
    variable: str, value: str, problem: str
) -> None:
    env = {"HUBBUB_HMAC_SECRET": SECRET, variable: value}

    started = hubbub("gateway", "--port", "0", **env)
    checked = hubbub("check-config", "gateway", **env)

    assert_fails_with(started, f"Error: {variable}: {problem}\n")
    assert (checked.returncode, checked.stderr) == (1, f"gateway: {variable}: {problem}\n")


@pytest.mark.parametrize("command", [["bootstrap"], ["gateway", "--port", "0"]])
def test_an_address_of_no_bus_is_a_sentence_without_its_password(command: list[str]) -> None:
    url = "nats://me:sesame@127.0.0.1:99999"
    done = hubbub(*command, HUBBUB_NATS_URL=url, HUBBUB_HMAC_SECRET=SECRET)

    assert_fails_with(done, "HUBBUB_NATS_URL: 'nats://127.0.0.1:99999' is not the address of a")
    assert "sesame" not in done.stderr


def test_a_database_that_is_away_is_a_sentence(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/no/such/folder/posts"
    done = hubbub("migrate", "--service", "posts", HUBBUB_DATABASE_URL=url)

    assert_fails_with(done, "posts: the database does not answer now: unable to open database file")


def test_migrating_a_data_folder_may_be_repeated(tmp_path: Path) -> None:
    for _ in range(2):
        done = hubbub("migrate", "--data", str(tmp_path / "data"))

        assert done.stdout.splitlines() == [
            "auth: the database is up to date",
            "posts: the database is up to date",
        ], done.stderr


def test_migrating_whose_database_must_be_said() -> None:
    done = hubbub("migrate", HUBBUB_DATABASE_URL="sqlite:///x")

    assert_fails_with(done, "say whose database HUBBUB_DATABASE_URL is by --service")


def test_bootstrapping_may_be_repeated(nats_url: str) -> None:
    for _ in range(2):
        done = hubbub("bootstrap", HUBBUB_NATS_URL=nats_url)

        assert done.stderr == ""
        assert done.stdout == "the streams are up to date: RT, PRES, CTL, EVENTS\n"


async def test_a_token_of_a_data_folder_is_believed(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    make_signing_key(folder.signing_key)
    key = trusted_key(read_signing_key(folder.signing_key.read_text()).public_key())
    issuer = own_issuer(
        FixedKeys([key]), name="hubbub", audience="hubbub", max_token_seconds=86_400
    )
    verifier = TokenVerifier([issuer])

    done = hubbub("token", "--user", "7", "--name", "Ann", "--data", str(tmp_path))

    claims = await verifier.verify(done.stdout.strip())
    assert (claims.user_id, claims.name) == ("7", "Ann")


def test_a_token_of_the_shared_secret_has_what_is_needed() -> None:
    done = hubbub("token", "--user", "7", HUBBUB_HMAC_SECRET=SECRET)

    claims = jwt.decode(done.stdout.strip(), SECRET, ["HS256"])
    assert (claims["sub"], claims["name"]) == ("7", "User 7")
    assert claims["exp"] - claims["iat"] == 3600


def test_a_token_is_of_any_user() -> None:
    done = hubbub("token", "--user", "auth0|5f7c", HUBBUB_HMAC_SECRET=SECRET)

    assert jwt.decode(done.stdout.strip(), SECRET, ["HS256"])["sub"] == "auth0|5f7c"


@pytest.mark.parametrize("user", ["", "a b", "x" * 129])
def test_a_token_of_nobody_is_not_made(user: str) -> None:
    done = hubbub("token", "--user", user, HUBBUB_HMAC_SECRET=SECRET)

    assert_fails_with(done, "a user's id: not 1-128 characters of")


def test_a_token_needs_a_key(tmp_path: Path) -> None:
    done = hubbub("token", "--user", "7", "--data", str(tmp_path))

    assert_fails_with(done, f"there is no signing key in {tmp_path}")


def test_a_token_that_nobody_would_believe_is_not_made() -> None:
    done = hubbub("token", "--user", "7", "--seconds", "90000", HUBBUB_HMAC_SECRET=SECRET)

    assert_fails_with(done, "HUBBUB_MAX_TOKEN_SECONDS")


def test_a_good_configuration_is_ok() -> None:
    done = hubbub("check-config", "gateway", HUBBUB_HMAC_SECRET=SECRET)

    assert (done.returncode, done.stdout) == (0, "gateway: ok\n"), done.stderr


@pytest.mark.parametrize(
    ("service", "said", "warns"),
    [
        ("gateway", {}, True),
        ("posts", {}, True),
        ("gateway", {"HUBBUB_AWAIT_AUTH_SERVICE": "true"}, False),
    ],
)
def test_that_nobody_waits_for_an_issuer_of_another_name_is_warned_of_until_it_is_said(
    service: str, said: dict[str, str], warns: bool
) -> None:
    done = hubbub(
        "check-config",
        service,
        HUBBUB_TOKEN_ISSUER="https://auth.example",
        HUBBUB_JWKS_URL="https://auth.example/auth/.well-known/jwks.json",
        HUBBUB_DATABASE_URL="sqlite:///x",
        **said,
    )

    assert (done.returncode, done.stdout) == (0, f"{service}: ok\n"), done.stderr
    assert done.stderr.startswith(
        f"{service}: warning: HUBBUB_AWAIT_AUTH_SERVICE is not set" * warns
    )
    assert done.stderr.count("\n") == warns


def test_each_problem_is_told_by_its_variable_and_without_its_value() -> None:
    done = hubbub(
        "check-config",
        "posts",
        HUBBUB_HMAC_SECRET=SECRET,
        HUBBUB_MAX_TOKEN_SECONDS="sesame",
        HUBBUB_POSTS_LIKE_NOTICE_SECONDS="-1",
        HUBBUB_POSTS_LIKE_NOTICES="1",
    )

    assert done.returncode == 1
    assert sorted(line.split(": ")[1] for line in done.stderr.splitlines()) == [
        "HUBBUB_DATABASE_URL",
        "HUBBUB_MAX_TOKEN_SECONDS",
        "HUBBUB_POSTS_LIKE_NOTICES",
        "HUBBUB_POSTS_LIKE_NOTICE_SECONDS",
    ]
    assert "sesame" not in done.stderr
    assert SECRET not in done.stderr


def test_a_setting_whose_file_is_not_there_is_a_problem(tmp_path: Path) -> None:
    done = hubbub("check-config", "gateway", HUBBUB_HMAC_SECRET_FILE=str(tmp_path / "secret"))

    assert done.returncode == 1
    assert str(tmp_path / "secret") in done.stderr


def test_trusting_nobody_is_a_problem() -> None:
    done = hubbub("check-config", "gateway")

    assert done.returncode == 1
    assert "no token could be checked" in done.stderr
