"""What is repeated is told exactly, also of so many rows that they are compared by slots."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from shared.datasets import repeats
from shared.datasets.repeats import Repeats


def pairs(keys: Sequence[int]) -> list[tuple[int, int]]:
    first: dict[int, int] = {}
    return [(first[key], place) for place, key in enumerate(keys) if first.setdefault(key, place) != place]


@pytest.mark.parametrize("at_once", [2**18, 0])
@pytest.mark.parametrize("questions", [1, 30, 10**6])
def test_every_repeated_row_and_prompt_is_told(
    at_once: int, questions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeats, "_AT_ONCE", at_once)
    monkeypatch.setattr(repeats, "_MOST_SLOTS", 2**6)
    chance, known = random.Random(questions), Repeats()
    for _ in range(3):  # what was asked before does not count any more when rows are added
        for _ in range(100):
            said = (chance.randrange(questions), chance.randrange(3), chance.randrange(3))
            known.rows.append(hash(said))
            known.prompts.append(hash(said[:2]))
            known.questions.append(hash(said[:1]))
        assert [*known.of_rows()] == pairs(known.rows)
        assert [*known.of_prompts()] == pairs(known.prompts)
        assert known.question_count == len({*known.questions})
