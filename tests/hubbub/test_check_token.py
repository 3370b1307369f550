"""`hubbub check-token`, with the configurations that docs/tokens.md shows."""

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from auth_service.signing import make_signing_key
from hubbub.data_folder import DataFolder
from hubbub.make_token import make_token
from tests.fixtures.commands import run_command
from tests.fixtures.issuers import jwk, jwks, rsa_key, signed

SECRET = "a secret of at least thirty-two bytes"
PAGE = (Path(__file__).resolve().parents[2] / "docs/tokens.md").read_text()
BACKEND, PROVIDER, CENTRIFUGO = (
    json.loads(example) for example in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
)


def check_token(
    token: str, *arguments: str, cwd: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the command with these ``HUBBUB_`` variables and no others."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("HUBBUB_")}
    done = run_command("check-token", *arguments, input=token, env=inherited | env, cwd=cwd)
    said = done.stdout + done.stderr
    assert not any(part in said for part in token.split(".") if len(part) > 12)
    return done


def assert_taken(done: subprocess.CompletedProcess[str], sentence: str) -> None:
    assert done.stderr == ""
    assert re.fullmatch(f"it would be taken: {sentence}\n", done.stdout), done.stdout
    assert done.returncode == 0


def assert_refused(done: subprocess.CompletedProcess[str], sentence: str) -> None:
    assert done.stdout == ""
    assert re.fullmatch(f"Error: {sentence}\n", done.stderr), done.stderr
    assert done.returncode == 1


@contextmanager
def serving(body: bytes) -> Iterator[str]:
    """The address of a server that answers everything with this."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/jwks"
        finally:
            server.shutdown()
            thread.join()


def test_a_backends_own_tokens_are_taken_by_its_secret(tmp_path: Path) -> None:
    [python] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(python, names)
    (tmp_path / "issuers").write_text(json.dumps(BACKEND))
    token = names["token_for"]("ann", "Ann", BACKEND[0]["hmac_secret"])

    done = check_token(token, HUBBUB_ISSUERS_FILE=str(tmp_path / "issuers"))

    assert_taken(done, r"user ann, for \d+ s more")
    former = [BACKEND[0] | {"hmac_secret": None, "hmac_secrets": [SECRET, "the old one"]}]
    done = check_token(token, HUBBUB_ISSUERS=json.dumps(former))
    assert_refused(done, "it would be refused: the token's signature is wrong")


def test_a_providers_tokens_are_taken_by_its_published_keys() -> None:
    [entry] = PROVIDER
    claims = {
        "iss": entry["issuer"], "sub": "auth0|5f7c", "aud": [entry["audience"], "others"],
        "iat": time.time() - 60, "exp": time.time() + 7200, "azp": "web", "scope": "openid",
    }  # fmt: skip

    def say_of(changes: dict[str, Any], kid: str = "k") -> subprocess.CompletedProcess[str]:
        token = signed(claims | changes, rsa_key(), "RS256", kid=kid)
        return check_token(token, HUBBUB_ISSUERS=issuers)

    with serving(jwks(jwk(rsa_key(), "k"))) as url:
        issuers = json.dumps([entry | {"jwks_url": url}])

        assert_taken(say_of({}), r"user auth0\|5f7c, for \d+ s more")
        assert_refused(
            say_of({"aud": "others"}), "it would be refused: the token is for another audience"
        )
        assert_refused(
            say_of({}, kid="theirs"),
            "it would be refused: the token's key is not one of its issuer's",
        )


def test_tokens_made_for_centrifugo_are_taken() -> None:
    secret, issuers = CENTRIFUGO[0]["hmac_secret"], json.dumps(CENTRIFUGO)
    for claims, whose in (
        ({"exp": time.time() + 600}, r"an anonymous user, where they may come in, for \d+ s more"),
        ({"sub": "42", "channel": "$a"}, "user 42, for a subscription to .a, without end"),
    ):
        done = check_token(signed(claims, secret, "HS256"), HUBBUB_ISSUERS=issuers)
        assert_taken(done, whose)


def test_a_token_of_a_data_folder_is_taken_by_its_key(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / ".hubbub")
    folder.create()
    make_signing_key(folder.signing_key)
    token = make_token("7", name=None, seconds=600, data=folder.path)
    (tmp_path / "token").write_text(f"\n{token}\n")

    assert_taken(check_token("", "token", cwd=tmp_path), r"user 7, for \d+ s more")
    assert_refused(
        check_token(token, HUBBUB_HMAC_SECRET=SECRET),
        "it would be refused: the token's algorithm is not accepted here",
    )


def test_a_token_among_the_arguments_is_not_repeated(tmp_path: Path) -> None:
    token = signed({"sub": "7"}, SECRET, "HS256")

    done = check_token("", token, HUBBUB_HMAC_SECRET=SECRET)

    assert "never given as an argument" in done.stderr
    assert token[:20] not in done.stderr
    assert done.returncode == 1


def test_what_cannot_be_judged_says_why(tmp_path: Path) -> None:
    assert_refused(check_token("", HUBBUB_HMAC_SECRET=SECRET), "there is no token")
    nobody = check_token("x.y.z", cwd=tmp_path)
    assert "none of HUBBUB_JWKS_URL, HUBBUB_HMAC_SECRET and HUBBUB_ISSUERS" in nobody.stderr

    issuers = [{"issuer": "idp", "jwks_url": "http://127.0.0.1:9/", "audience": "a"}]
    token = signed({"iss": "idp", "sub": "7"}, rsa_key(), "RS256", kid="k")
    away = check_token(token, HUBBUB_ISSUERS=json.dumps(issuers))

    unknown = "it can't be judged: the keys of the token's issuer are not known: "
    assert_refused(away, unknown + "http://127.0.0.1:9/: ConnectError.*")
