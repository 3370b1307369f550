import threading

import pytest

from hubbub.progress import saying
from tests.system.processes import until


def test_what_takes_long_is_said_while_it_lasts(capsys: pytest.CaptureFixture[str]) -> None:
    with saying("making tea", patience_seconds=0):
        said = until(lambda: capsys.readouterr().out)

    assert said == "… making tea\n"


def test_what_is_quick_is_not_said(capsys: pytest.CaptureFixture[str]) -> None:
    before = set(threading.enumerate())

    with saying("making tea", patience_seconds=60):
        [sayer] = set(threading.enumerate()) - before

    until(lambda: not sayer.is_alive(), why="nothing is left that could say it")
    assert capsys.readouterr().out == ""
