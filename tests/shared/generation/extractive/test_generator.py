from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.documents.chunks import split
from shared.documents.text import Text
from shared.generation.extractive.generator import ExtractiveGenerator, answer_text, extract
from shared.generation.extractive.language import detect
from shared.generation.source import Draft, SourceChunk

HANDBOOK = (Path(__file__).parents[4] / "examples/handbook.md").read_text()
README = """# Watcher

- `persistent` (default: `true`). Says whether the process goes on while files are watched.
- **Backend**: the native one, unless polling was asked for by the caller.
- [only a link](https://a.example)

```python
print("The code is never an answer to anything.")
```

| The table | has a cell |
|---|---|
| The cell | is never an answer |

> **Note:** The watcher reads each directory
> twice when it starts.

## How do I stop it?

Call the method named close and wait for it. See https://a.example/docs for more.
"""


def pairs_of(text: str, count: int = 4, *, is_markdown: bool = True) -> list[Draft]:
    return [
        draft
        for chunk in split(Text(text, is_markdown))
        for draft in extract(SourceChunk(chunk.content, chunk.char_start, chunk.heading_path), count)
    ]


def test_the_handbook_gives_forty_pairs_that_are_unique_and_exact() -> None:
    drafts = pairs_of(HANDBOOK)
    assert len(drafts) >= 40
    assert len({draft.turns[0][0].casefold() for draft in drafts}) == len(drafts)
    for draft in drafts:
        ((_, answer),) = draft.turns
        assert HANDBOOK[draft.char_start : draft.char_end] == answer
        assert answer.endswith(".")
        assert len(answer) <= 220


def test_the_same_text_gives_the_same_pairs() -> None:
    assert pairs_of(HANDBOOK) == pairs_of(HANDBOOK)


def test_a_readme_is_read_by_its_structure() -> None:
    said = {draft.turns[0][0]: draft.turns[0][1] for draft in pairs_of(README, 10)}
    assert said["How do I stop it?"] == "Call the method named close and wait for it."
    assert said['What does "Watcher" say about persistent?'].startswith("`persistent` (default")
    assert said["When does the watcher read each directory twice?"].endswith(
        "each directory twice when it starts."
    )
    assert not any("never an answer" in answer or "only a link" in answer for answer in said.values())


@pytest.mark.parametrize(
    ("text", "language", "question"),
    [
        (
            "# Turm\n\nDie Wendeltreppe hat 187 Stufen und sie ist sehr steil für die Gäste.",
            "de",
            "Was steht unter „Turm“ über „Wendeltreppe“?",
        ),
        (
            "# La torre\n\nLa torre tiene 187 escalones, y los niños no pagan entrada en el museo.",
            "es",
            "¿Qué dice «La torre» sobre «escalones»?",
        ),
        ("# 灯塔\n\n螺旋楼梯有187级台阶。", "zh", "关于“187级台阶”\uff0c“灯塔”中是怎么说的\uff1f"),
        ("灯台は1862年に完成しました。", "ja", "本文では「1862年」についてどう書かれていますか\uff1f"),
        ("Маяк построен в 1862 году на острове.", "ru", None),
        ("بني برج المنارة في عام 1862 على الجزيرة.", "ar", None),
    ],
)
def test_other_languages_are_asked_in_their_own(text: str, language: str, question: str | None) -> None:
    assert detect(text).code == language
    (draft,) = pairs_of(text, 1)
    assert question in (None, draft.turns[0][0])
    assert draft.turns[0][1] in text


def test_a_question_that_is_taken_is_told_apart_or_left_out() -> None:
    opens = "The museum opens at 10:00 each day. The museum opens at 11:00 each Sunday."
    asked = [draft.turns[0][0] for draft in extract(SourceChunk(opens, 0, ("Guide",)), 5)]
    assert asked == ["When does the museum open?", 'In "Guide", when does the museum open?']
    always = " ".join(f"The museum opens at {hour}:00 each day." for hour in range(8, 14))
    asked = [draft.turns[0][0] for draft in extract(SourceChunk(always, 0), 6)]
    assert len(asked) == len(set(asked)) == 3


def test_a_sentence_that_is_repeated_is_asked_once() -> None:
    chunk = SourceChunk("The lamp turns once every 24 seconds. The lamp turns once every 24 seconds.", 0)
    assert len(extract(chunk, 5)) == 1


async def test_conversations_have_two_turns_where_there_is_enough() -> None:
    chunk = SourceChunk(HANDBOOK[:1038], 0)
    made = await ExtractiveGenerator("conversation").draft(chunk, 2)
    assert [len(draft.turns) for draft in made.drafts] == [2, 2]
    assert HANDBOOK[made.drafts[0].char_start : made.drafts[0].char_end] == made.drafts[0].turns[1][1]


PIECES = [*"#-*`~>|<=[]()!:. \r\nab", "The lamp turns ", " is ", "。", "é", "1. ", "http://x", "\u202e"]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=80).map("".join))
def test_any_text_gives_answers_that_stand_at_their_spans(text: str) -> None:
    for draft in pairs_of(text, 10):
        ((question, answer),) = draft.turns
        assert question.strip()
        assert answer_text(text[draft.char_start : draft.char_end]) == answer
