"""What the X-ray of a dataset says of rows that train nothing, each with its rule and its place."""

import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from shared.datasets.base_tokenizer import BaseTokenizer
from shared.datasets.dataset_xray import DatasetXray, until_it_teaches
from shared.datasets.model import Message, Pair
from shared.datasets.store import training_file
from shared.training.tiny.tokenizer import tiny_tokenizer

ASKED = Message("user", "Who?")
TOOL = {"type": "function", "function": {"name": "ask"}}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tokenizer(tmp_path_factory.mktemp("data"))


def pair(answer: str, weight: int | None = None, *tools: dict[str, object]) -> Pair:
    messages = (ASKED, Message("assistant", answer, weight=weight))
    return Pair(UUID(int=7), datetime(2026, 11, 30, tzinfo=UTC), 0, messages, tools=tools)


def test_each_reason_has_its_rule(tokenizer: Path) -> None:
    pairs = [pair("Nell.", 1), pair("Nell.", 0), pair("long " * 40), pair("Nell.", None, TOOL), pair("")]
    with BaseTokenizer(tokenizer) as base:
        seen = DatasetXray(base, 40)
        found = [*seen.add(list(enumerate(pairs, start=1))), *seen.finish()]
    assert [(one.rule, one.severity, one.line) for one in found] == [
        ("trains_nothing", "error", 2),
        ("truncated", "warning", 3),
        ("row_refused", "error", 4),
        ("trains_nothing", "error", 5),
    ]
    assert "leaves out the definitions of tools" in found[2].message
    totals = seen.totals
    assert (totals.rows, totals.used_rows, totals.left_out_rows, totals.refused_rows) == (5, 2, 2, 1)


def test_a_file_of_weight_0_or_of_hidden_tools_is_not_started(tokenizer: Path) -> None:
    with BaseTokenizer(tokenizer) as base:
        of_nothing = until_it_teaches(training_file([pair("Nell.", 0)] * 3).content, base, 40)
        hidden = until_it_teaches(training_file([pair("Nell.", 1, TOOL)]).content, base, 40)
    assert of_nothing.refusal == "No row trains anything."
    assert hidden.refusal is not None
    assert "refuses 1 of 1" in hidden.refusal
    assert json.loads(training_file([pair("Nell.", 0)]).content)["messages"][1]["weight"] == 0
