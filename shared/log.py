"""One JSON object a line on standard error, with secrets taken out."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

# Shapes of keys and tokens of the vendors that FineFlow talks to, and of JWTs.
_SECRET = re.compile(
    r"(sk-[\w-]{8,}|hf_\w{8,}|sb_secret_[\w-]{8,}|whsec_[\w+/=-]{8,}|AIza[\w-]{20,}|tgp_[\w-]{8,}"
    r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+|(?i:bearer)\s+[\w.~+/=-]{8,})"
)
REDACTED = "[redacted]"


def redact(value: Any) -> Any:
    """The same value with everything that looks like a key or token replaced."""
    if isinstance(value, str):
        return _SECRET.sub(REDACTED, value)
    if isinstance(value, dict):
        return {key: redact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    return value


def _redact_event(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {key: redact(value) for key, value in event.items()}


class _RedactingFormatter(logging.Formatter):
    """Lines of libraries: their tracebacks can quote a header."""

    def format(self, record: logging.LogRecord) -> str:
        return str(redact(super().format(record)))


def configure() -> None:
    """From now on this process logs JSON lines to standard error, and libraries do so redacted."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_RedactingFormatter("%(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _redact_event,
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def logger(name: str) -> Any:
    """A logger bound to the part of the code that it speaks for."""
    return structlog.get_logger(part=name)  # lazy: bind() would fix the configuration of this moment
