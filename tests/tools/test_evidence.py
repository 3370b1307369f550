"""A run that was to be in containers says so if it was not."""

from types import SimpleNamespace
from typing import Any, Literal, cast

import pytest

from tests.e2e.evidence import Evidence, assert_nothing_leaked
from tests.e2e.stack import Stack

TEST = "tests/e2e/test_x.py::test_x"


def a_stack(**given: Any) -> Stack:
    logs = {"nats": "", **given.pop("logs", {})}
    made = {"in_containers": True, "secrets": lambda: ["the secret of NATS"], "logs": lambda: logs}
    return cast(Stack, SimpleNamespace(**(made | given)))


def a_report(
    nodeid: str = TEST,
    *,
    when: Literal["setup", "call"] = "call",
    outcome: Literal["passed", "failed", "skipped"] = "passed",
) -> pytest.TestReport:
    return pytest.TestReport(nodeid, ("", 0, ""), {}, outcome, None, when)


def test_all_in_containers_is_enough() -> None:
    evidence = Evidence(containers_demanded=True)
    evidence.ran_on(TEST, a_stack())
    evidence.note(a_report())
    evidence.note(a_report("tests/shared/test_y.py::test_y", outcome="skipped"))

    assert evidence.shortfall() == ""


@pytest.mark.parametrize(
    ("in_containers", "report", "shortfall"),
    [
        (True, a_report(outcome="skipped", when="setup"), f"skipped: {TEST}"),
        (False, a_report(), f"none ran in containers; ran outside containers: {TEST}"),
        (True, a_report(f"{TEST}_2"), f"ran outside containers: {TEST}_2"),
        (None, a_report(when="setup"), "none ran in containers"),
    ],
)
def test_what_is_missing_is_named(
    in_containers: bool | None, report: pytest.TestReport, shortfall: str
) -> None:
    evidence = Evidence(containers_demanded=True)
    if in_containers is not None:
        evidence.ran_on(TEST, a_stack(in_containers=in_containers))
    evidence.note(report)

    assert evidence.shortfall() == shortfall


def test_nothing_is_missing_if_nothing_was_demanded() -> None:
    evidence = Evidence(containers_demanded=False)
    evidence.note(a_report(outcome="skipped", when="setup"))

    assert evidence.shortfall() == ""


@pytest.mark.parametrize(
    "log",
    [
        "connected as the secret of NATS",
        "GET /ws/chat?token=eyJhbGciOi",
        "Traceback (most recent call last):",
    ],
)
def test_what_must_not_be_in_a_log_is_found_in_any(log: str) -> None:
    assert_nothing_leaked(a_stack(logs={"posts": "fine"}))

    with pytest.raises(AssertionError, match="posts"):
        assert_nothing_leaked(a_stack(logs={"posts": f"fine\n{log}\nfine"}))


def test_violations_of_anybody_but_the_one_who_tries_them_are_found() -> None:
    line = '[ERR] 10.0.0.1 - cid:5 - "v1:python3:{}" - Publish Violation - User "posts"'
    assert_nothing_leaked(a_stack(logs={"nats": line.format("trespasser")}))

    with pytest.raises(AssertionError, match="Violation"):
        assert_nothing_leaked(a_stack(logs={"nats": line.format("posts")}))
