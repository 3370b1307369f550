"""What a run of the end-to-end tests has to show for itself."""

import re

import pytest

from tests.e2e.people import PASSWORD
from tests.e2e.stack import Stack

FOLDER = "tests/e2e/"
TRESPASSER = "trespasser"
"""The name of the NATS client whose violations are wanted."""
STRANGER_PASSWORD = "not-the-password-of-anybody"


class Evidence:
    """Which tests ran on what; containers may have been demanded."""

    def __init__(self, *, containers_demanded: bool) -> None:
        self.facts: list[str] = []
        """What the summary tells of the system."""
        self._demanded = containers_demanded
        self._in_containers: set[str] = set()
        self._ran: set[str] = set()
        self._skipped: set[str] = set()

    def ran_on(self, test: str, stack: Stack) -> None:
        if stack.in_containers:
            self._in_containers.add(test)

    def note(self, report: pytest.TestReport) -> None:
        if report.nodeid.startswith(FOLDER):
            if report.skipped:
                self._skipped.add(report.nodeid)
            elif report.when == "call":
                self._ran.add(report.nodeid)

    def shortfall(self) -> str:
        """What is missing of what was demanded; empty if nothing is."""
        if not self._demanded:
            return ""
        lacks = []
        if not self._in_containers:
            lacks.append("none ran in containers")
        for what, tests in (
            ("ran outside containers", self._ran - self._in_containers),
            ("skipped", self._skipped),
        ):
            if tests:
                lacks.append(f"{what}: {', '.join(sorted(tests))}")
        return "; ".join(lacks)


def assert_nothing_leaked(stack: Stack) -> None:
    """No secret, token or traceback in any log, and nobody did what NATS forbids."""
    secrets = [*stack.secrets(), PASSWORD, STRANGER_PASSWORD]
    assert all(len(secret) > 8 for secret in secrets), "or they would be found everywhere"
    for name, log in stack.logs().items():
        leaked = [number for number, secret in enumerate(secrets) if secret in log]
        assert not leaked, f"secrets {leaked} are in the log of {name}"
        assert "eyJ" not in log, f"a token is in the log of {name}"
        assert "Traceback" not in log, f"{name}: {_around(log, 'Traceback')}"
    violations = [
        line
        for line in stack.logs()["nats"].splitlines()
        if re.search("violation", line, re.IGNORECASE) and not _is_wanted(line)
    ]
    assert not violations, violations[:20]


def _is_wanted(line: str) -> bool:
    return TRESPASSER in line


def _around(log: str, word: str) -> str:
    place = log.index(word)
    return log[max(0, place - 500) : place + 3000]
