"""Logs: one structured line for each event, without secrets."""

import logging
import re
import sys

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from hubbub_client.log_events import LogEvent

_SECRETS = re.compile(
    r"((?:token|api_key|password)=)[^&\s\"']+"  # a query or form parameter
    r"|eyJ[\w-]{5,}\.[\w-]+\.[\w-]*"  # a JWT, wherever it stands
    r"|(Bearer |apikey )[^\s\"',]+",
    re.IGNORECASE,
)

_OF_MANY_LINES = ("exception", "stack")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # a peer's text must not move the cursor


def redact(text: str) -> str:
    """Blank whatever looks like a secret. A safety net: no code should log one."""
    return _SECRETS.sub(lambda found: f"{found[1] or found[2] or ''}[redacted]", text)


def _redact_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if isinstance(value, str):
            lines = value if key in _OF_MANY_LINES else value.replace("\n", "\\n")
            event[key] = _CONTROL.sub("?", redact(lines))
    return event


def _of_the_client(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """What the client logs by the standard library, as if it were ours."""
    message = event["_record"].msg
    if isinstance(message, LogEvent):
        event.update(message.fields, event=message.name)
    return event


def configure_logging(level: str, *, json: bool) -> None:
    """Send structlog's and the standard library's records to stderr in one form.

    Called once, by the process's entry point. Libraries log from WARNING on: uvicorn's INFO lines
    would print the query of every WebSocket, with the token.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: Processor = structlog.processors.JSONRenderer()
    if not json:
        # Plain tracebacks: pretty ones print local variables, tokens among them.
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _of_the_client, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _redact_event,
                renderer,
            ],
        )
    )
    logging.captureWarnings(True)  # Python would write lines of its own
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for library in (
        "uvicorn",
        "uvicorn.error",
        "uvicorn.asgi",
        "httpx2",
        "httpcore2",
        "nats",
        "alembic",
    ):
        logging.getLogger(library).setLevel(logging.WARNING)
