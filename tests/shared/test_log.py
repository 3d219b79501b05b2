"""No log line holds a key."""

import logging

import pytest
import structlog

from shared.log import REDACTED, configure, logger, redact

SECRETS = [
    "sk-canary-0123456789abcdef",
    "sk-proj-canary_0123456789",
    "hf_canary0123456789",
    "sb_secret_canary0123456789",
    "AIzaSyCanary-0123456789abcdef",
    "whsec_canary0123456789",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_values_are_redacted_wherever_they_stand(secret: str) -> None:
    shown = redact({"message": f"provider said: {secret} is bad", "nested": [{"header": f"Bearer {secret}"}]})
    assert secret not in str(shown)
    assert REDACTED in shown["message"]


def test_what_is_not_a_secret_stays() -> None:
    assert redact("risk-free training of 3 rows") == "risk-free training of 3 rows"
    assert redact({"count": 3}) == {"count": 3}


@pytest.fixture
def restored_logging() -> object:
    yield
    structlog.reset_defaults()
    logging.basicConfig(force=True)


@pytest.mark.usefixtures("restored_logging")
def test_log_lines_and_tracebacks_hold_no_key(capfd: pytest.CaptureFixture[str]) -> None:
    configure()
    secret = SECRETS[0]
    try:
        raise ValueError(f"refused: {secret}")
    except ValueError:
        logger("test").exception("failed", api_key=secret)
        logging.getLogger("library").exception("failed with %s", secret)
    written = capfd.readouterr().err
    assert '"part": "test"' in written
    assert "library" in written
    assert secret not in written
