"""Logs: one structured line per event, no secret in any of them."""

import logging
import re
import sys

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_SECRETS = re.compile(
    r"((?:token|api_key|password)=)[^&\s\"']+"  # a query or form parameter
    r"|eyJ[\w-]{5,}\.[\w-]+\.[\w-]*"  # a JWT, wherever it stands
    r"|(Bearer |apikey )[^\s\"',]+",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """Blank whatever looks like a token: the last guard; nobody should log one."""
    return _SECRETS.sub(lambda found: f"{found[1] or found[2] or ''}[redacted]", text)


def _redact_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = redact(value)
    return event


def configure_logging(level: str, *, json: bool) -> None:
    """Send structlog's and the standard library's records to stderr in one form.

    Called once, by the process's entry point. Libraries speak from WARNING on: uvicorn's
    INFO lines would print the query of every WebSocket, and with it the token.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: list[Processor] = (
        [structlog.processors.format_exc_info, _redact_event, structlog.processors.JSONRenderer()]
        if json
        else [_redact_event, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
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
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
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
