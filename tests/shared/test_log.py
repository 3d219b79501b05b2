"""No log line holds a key."""

import base64
import logging
from urllib.parse import quote

import pytest
import structlog
from pydantic import SecretStr

from shared.log import REDACTED, configure, logger, redact, remember_secret

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


@pytest.mark.parametrize("around", ["{}", "a{}b", "user:{}", "ab:{}@host", "?key={}&x=1"])
def test_a_remembered_value_is_redacted_in_every_form(around: str) -> None:
    value = "0f1e2d3c/4b5a6978+8796a5b4="  # no shape that anybody knows
    remember_secret(SecretStr(value))
    text = around.format(value).encode()
    spellings = [text, quote(text, safe="").encode(), base64.b64encode(text), base64.urlsafe_b64encode(text)]
    for spelling in spellings:
        assert REDACTED in redact(spelling.decode())
    assert redact(f"{value[:-4]} and {value[4:]}") == f"{value[:-4]} and {value[4:]}"


def test_the_latest_secrets_are_remembered_and_short_ones_never() -> None:
    first, last = "the first of many secrets", "the last of many secrets"
    remember_secret(SecretStr(first))
    for number in range(256):
        remember_secret(SecretStr(f"secret number {number:06d}"))
    remember_secret(SecretStr(last))
    remember_secret(SecretStr("a word"))
    assert redact(f"{first}, {last}, a word") == f"{first}, {REDACTED}, a word"


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
