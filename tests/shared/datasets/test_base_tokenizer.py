"""Templates that nobody would want to run, and what is left of them."""

import json
import os
import time
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from shared.datasets.base_tokenizer import BaseTokenizer, RowRefused, TokenizedRow
from shared.datasets.training_rows import Conversation
from shared.errors import InvalidRequest

ANSWER = {"role": "assistant", "content": "b"}
ROW = Conversation([{"role": "user", "content": "a"}, ANSWER])


@pytest.fixture
def base(tmp_path: Path) -> Path:
    Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?")).save(
        str(tmp_path / "tokenizer.json")
    )
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    return tmp_path


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ raise_exception('no system turn') }}", "no system turn"),
        ("{{ messages.__class__.__mro__ }}", "unsafe"),
        ("{{ raise_exception.__globals__.os }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe|not safely callable"),
        ("{% set n = namespace(_x=1) %}", "cannot hold '_x'"),
        ("{{ cycler.__init__.__globals__.os.environ }}", "unsafe"),
        ("{% include '/etc/passwd' %}", "no loader"),
        ("{{ range(1000000000) | list }}", "too big"),
        ("{{ 'a' * 30000000 }}", "30,000,000 characters"),
        ("{{ 'a' * 30000000000 }}", "memory"),
    ],
)
def test_a_hostile_template_gets_nowhere(base: Path, template: str, says: str) -> None:
    (base / "chat_template.jinja").write_text(template)
    with BaseTokenizer(base) as tokenizer, pytest.raises(RowRefused, match=says):
        tokenizer.row(ROW)


def test_an_endless_template_is_stopped_and_given_up(base: Path) -> None:
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    (base / "chat_template.jinja").write_text(
        "{% if messages[0].content == 'a' %}" + endless + "{% endif %}b"
    )
    with BaseTokenizer(base, row_timeout_seconds=0.3) as tokenizer:
        started = time.monotonic()
        with pytest.raises(RowRefused, match=r"longer than 0\.3 seconds"):
            tokenizer.row(ROW)
        assert time.monotonic() - started < 5
        assert tokenizer.row(Conversation([{"role": "user", "content": "b"}, ANSWER])).ids  # a new process
        with pytest.raises(RowRefused):
            tokenizer.row(ROW)
        with pytest.raises(RowRefused):
            tokenizer.row(ROW)
        with pytest.raises(InvalidRequest, match="used up its time"):
            tokenizer.row(ROW)


def test_rows_that_were_sent_ahead_outlive_the_one_that_hangs(base: Path) -> None:
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    (base / "chat_template.jinja").write_text(
        "{% if messages[0].content == 'hang' %}" + endless + "{% endif %}{{ messages[-1].content }}"
    )
    rows = [
        (n, Conversation([{"role": "user", "content": "hang" if n == 40 else "b"}, ANSWER]))
        for n in range(300)
    ]
    with BaseTokenizer(base, row_timeout_seconds=0.3) as tokenizer:
        seen = list(tokenizer.measured([*rows, (300, None)]))
    assert [number for number, _ in seen] == list(range(301))
    refused = [number for number, row in seen if isinstance(row, RowRefused)]
    assert (refused, seen[300]) == ([40], (300, None))
    assert {row.token_count for _, row in seen if isinstance(row, TokenizedRow)} == {2}


def test_a_template_that_is_none_is_told_at_once(base: Path) -> None:
    (base / "chat_template.jinja").write_text("{% for %}")
    with pytest.raises(InvalidRequest, match="cannot be used"):
        BaseTokenizer(base)


def test_the_process_knows_no_secret_and_ends(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINEFLOW_TEST_SECRET", "hush")
    with BaseTokenizer(base) as tokenizer:
        process = tokenizer._child.pid
        assert b"hush" not in Path(f"/proc/{process}/environ").read_bytes()
        assert tokenizer.eos_id == 3  # named in the configuration only: added behind the vocabulary
        assert not tokenizer.has_own_template
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
