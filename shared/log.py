"""One JSON object a line on standard error, with secrets taken out.

Secrets are known by their shape, and by their value once `remember_secret` was told of them: some
vendors' keys look like any other hexadecimal number.
"""

from __future__ import annotations

import base64
import logging
import re
import sys
from collections import Counter, OrderedDict
from typing import Any
from urllib.parse import quote, quote_plus

import structlog
from pydantic import SecretStr
from structlog.typing import EventDict, WrappedLogger

# Shapes of keys and tokens of the vendors that FineFlow talks to, and of JWTs.
SECRET_SHAPE = re.compile(
    r"(sk-[\w-]{8,}|hf_\w{8,}|sb_secret_[\w-]{8,}|whsec_[\w+/=-]{8,}|AIza[\w-]{20,}|tgp_[\w-]{8,}"
    r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+|(?i:bearer)\s+[\w.~+/=-]{8,})"
)
REDACTED = "[redacted]"
_MOST_REMEMBERED = 256  # bounds what one redaction costs; a key that is used is among the latest
_SHORTEST_REMEMBERED = 8  # shorter ones would tear holes into ordinary words
_HEAD = 8
_remembered: OrderedDict[str, tuple[str, ...]] = OrderedDict()  # secret -> its forms, the latest last
_heads: Counter[str] = Counter()  # of all forms: most texts hold none, and are done with


def remember_secret(secret: SecretStr) -> None:
    """From now on `redact` knows this value, also URL-encoded and in base64.

    A process remembers the 256 latest.
    """
    value = secret.get_secret_value()
    if len(value) < _SHORTEST_REMEMBERED:
        return
    if value not in _remembered:
        _remembered[value] = _forms(value)
        _heads.update(form[:_HEAD] for form in _remembered[value])
    _remembered.move_to_end(value)
    while len(_remembered) > _MOST_REMEMBERED:
        _forget_oldest()


def _forget_oldest() -> None:
    _, forms = _remembered.popitem(last=False)
    for head in (form[:_HEAD] for form in forms):
        _heads[head] -= 1
        if not _heads[head]:
            del _heads[head]


def _forms(value: str) -> tuple[str, ...]:
    raw = value.encode()
    forms = {value, quote(value), quote(value, safe=""), quote_plus(value)}
    for shift in range(
        3
    ):  # base64 of a longer text that holds the secret: without what its neighbours change
        for encoded in (base64.b64encode(bytes(shift) + raw), base64.urlsafe_b64encode(bytes(shift) + raw)):
            first, last = -(-shift * 8 // 6), (shift + len(raw)) * 8 // 6
            forms.add(encoded[first:last].decode())
    return tuple(sorted(forms, key=len, reverse=True))


def redact(value: Any) -> Any:
    """The same value with everything that is, or looks like, a key or token replaced."""
    if isinstance(value, str):
        return SECRET_SHAPE.sub(REDACTED, _without_remembered(value))
    if isinstance(value, SecretStr):
        return REDACTED
    if isinstance(value, dict):
        return {key: redact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    return value


def _without_remembered(text: str) -> str:
    if any(_heads.get(text[start : start + _HEAD]) for start in range(len(text) - _HEAD + 1)):
        for forms in tuple(_remembered.values()):
            for form in forms:
                text = text.replace(form, REDACTED)
    return text


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
    # uvicorn prints what a handler raised by handlers of its own, past the redaction.
    for name in ("uvicorn", "uvicorn.error"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
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
