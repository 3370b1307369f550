import json
import logging
import subprocess
import sys

import pytest

from hubbub_client.log_events import LogEvent
from shared.runtime.telemetry import redact

JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    "text",
    [
        f"GET /ws/chat?token={JWT}&room=lobby",
        f"Authorization: Bearer {JWT}",
        f"authorization: apikey {JWT}",
        f"bearer, {JWT}",
        "POST /api/publish?api_key=eyJhbGci",
    ],
)
def test_what_looks_like_a_token_is_blanked(text: str) -> None:
    assert "eyJ" not in redact(text)
    assert "[redacted]" in redact(text)


def test_other_text_is_left_alone() -> None:
    assert redact("user 7 joined chat:lobby") == "user 7 joined chat:lobby"


def test_both_kinds_of_loggers_write_one_redacted_json_line_each() -> None:
    script = f"""
import logging, structlog, warnings
from shared.runtime.telemetry import configure_logging
configure_logging("INFO", json=True)
structlog.get_logger("a").info("connected", user_id=7, query="?token={JWT}")
logging.getLogger("b").warning("from a library: %s", "Bearer {JWT}")
logging.getLogger("uvicorn.error").info('"WebSocket /ws/chat?token={JWT}" [accepted]')
try:
    raise ValueError("{JWT}")
except ValueError:
    structlog.get_logger("a").exception("failed")
warnings.warn("of Python: {JWT}")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )

    *lines, warning = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == [
        "connected",
        "from a library: Bearer [redacted]",
        "failed",
    ]
    assert (lines[0]["user_id"], lines[0]["level"]) == (7, "info")
    assert "UserWarning: of Python: [redacted]" in warning["event"]
    assert JWT not in done.stderr


def test_a_traceback_for_the_console_shows_no_variables_and_no_control_characters() -> None:
    script = f"""
import structlog
from shared.runtime.telemetry import configure_logging
configure_logging("INFO", json=False)
def fail(query):
    raise ValueError("broken")
try:
    fail("token={JWT}")
except ValueError:
    structlog.get_logger("a").exception("failed")
structlog.get_logger("a").info("disconnected", reason=chr(27) + "]0;x" + chr(7) + chr(10) + "next")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )

    assert "ValueError: broken" in done.stderr
    assert "eyJ" not in done.stderr
    assert not set(done.stderr) & {chr(7), chr(27)}
    assert "\\nnext" in done.stderr


def test_the_standard_library_is_untouched_until_configured() -> None:
    assert not any(
        type(handler).__module__.startswith("structlog") for handler in logging.root.handlers
    )


def test_what_the_client_logs_is_a_line_with_its_fields_too() -> None:
    script = """
import logging
from hubbub_client.log_events import LogEvent
from shared.runtime.telemetry import configure_logging
configure_logging("INFO", json=True)
logging.getLogger("hubbub_client.a").warning(LogEvent("outbox_lost", stream="EVENTS", above=7))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )

    line = json.loads(done.stderr)
    line.pop("timestamp")
    assert line == {"event": "outbox_lost", "stream": "EVENTS", "above": 7, "level": "warning"}
    assert str(LogEvent("bus_error", error="no route")) == "bus_error error='no route'"
