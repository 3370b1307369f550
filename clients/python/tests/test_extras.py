"""What is not installed is not needed, and what needs it says so."""

import subprocess
import sys

import pytest

EXTRAS = (
    "cryptography", "django", "fastapi", "jwt", "nats", "pydantic", "pydantic_core", "pytest",
    "sqlalchemy", "starlette", "structlog",
)  # fmt: skip


def run_without(packages: tuple[str, ...], code: str) -> str:
    """What Python says at the end, where importing these fails."""
    absent = f"import sys\nfor name in {packages!r}: sys.modules[name] = None\n"
    command = [sys.executable, "-c", absent + code]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr.strip()


def test_the_clients_need_no_extra() -> None:
    code = "import hubbub_client, hubbub_client.recorder"
    assert run_without(EXTRAS, code) == ""


@pytest.mark.parametrize(
    ("extra", "module", "package"),
    [
        ("tokens", "tokens", "jwt"),
        ("fastapi", "fastapi", "fastapi"),
        ("django", "django", "django"),
        ("nats", "nats.client", "nats"),
        ("nats", "bus", "nats"),
        ("sqlalchemy", "outbox", "sqlalchemy"),
    ],
)
def test_who_lacks_an_extra_is_told_what_to_install(extra: str, module: str, package: str) -> None:
    said = run_without((package,), f"import hubbub_client.{module}").splitlines()[-1]
    assert said.endswith(f"pip install 'hubbub-client[{extra}]'")


def test_who_signs_with_a_key_is_told_what_that_needs() -> None:
    code = "from hubbub_client.tokens import connection_token as make\n"
    secret = "make('u', secret='a secret of at least thirty-two bytes')\n"
    said = run_without(("cryptography",), code + secret + "make('u', key='a key')").splitlines()[-1]
    assert said == "ImportError: keys need cryptography: pip install 'hubbub-client[tokens]'"
