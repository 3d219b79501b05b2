from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.documents.markdown import blocks, heading_title, plain
from shared.documents.sentences import sentences

MARKDOWN = """---
title: x
---
# One #

First line
second line.

Two
---
- item *a*
  goes on
1. [ ] item b
> quoted
> twice

```python
# not a heading
- not an item
```
    indented code
| a | b |
|---|---|
<div>
html</div>

***
[link]: http://x.y
<!-- # hidden
- hidden -->
### `Three` [t](u)
"""


def test_each_kind_of_block_is_told() -> None:
    found = [(block.kind, MARKDOWN[block.start : block.end]) for block in blocks(MARKDOWN)]
    assert found == [
        ("heading", "One #"),
        ("paragraph", "First line\nsecond line."),
        ("heading", "Two"),
        ("item", "item *a*\n  goes on"),
        ("item", "item b\n> quoted\n> twice"),
        ("code", "```python\n# not a heading\n- not an item\n```"),
        ("code", "    indented code"),
        ("table", "| a | b |"),
        ("table", "|---|---|"),
        ("html", "<div>\nhtml</div>"),
        ("other", "[link]: http://x.y"),
        ("html", "<!-- # hidden\n- hidden -->"),
        ("heading", "`Three` [t](u)"),
    ]


def test_headings_have_a_level_and_a_title() -> None:
    headings = [block for block in blocks(MARKDOWN) if block.kind == "heading"]
    assert [(block.level, heading_title(MARKDOWN, block)) for block in headings] == [
        (1, "One"),
        (2, "Two"),
        (3, "Three t"),
    ]


@given(st.text(alphabet="#-*`~>|<!=_[](). \t\r\nab1é。", max_size=200))
def test_blocks_lie_in_order_and_overlap_nowhere(text: str) -> None:
    at = 0
    for block in blocks(text):
        assert at <= block.start <= block.end <= len(text)
        at = block.end


@pytest.mark.parametrize(
    ("markdown", "words"),
    [
        ("**bold** and *em* `code` ~~gone~~", "bold and em code gone"),
        ("[a](http://b) ![img](c.png) [d][e]", "a d"),
        ("snake_case stays, _this_ goes", "snake_case stays, this goes"),
        ("2 * 3 * 4", "2 * 3 * 4"),
        ("a <br/>b \\* `Map<string>`", "a b * Map<string>"),
        ("over\n> two lines", "over two lines"),
    ],
)
def test_plain_text_has_no_marks(markdown: str, words: str) -> None:
    assert plain(markdown) == words


def cut(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text, 0, len(text))]


@pytest.mark.parametrize(
    "parts",
    [
        ["One ends.", "Two ends!", "(Three ends?)", "No end"],
        ["It costs 3.50 at St. Mary, e.g. for Dr. J. Crake.", "Then more."],
        ["Use v1.2 of foo.py now.", "Done."],
        ['He said "stop."', "She left."],
        ["Es beginnt am 14. März 1862.", "Dann endet es."],
        ["Quanto costa?", "¿Qué?", "¡Nada!"],
        ["Wait... and see.", "Yes…", "No."],
        ["Это дом.", "Он стар."],
    ],
)
def test_sentences_end_at_their_marks(parts: list[str]) -> None:
    assert cut(" ".join(parts)) == parts


def test_scripts_without_blanks_are_cut_too() -> None:
    assert cut("灯塔有187级台阶。它在哪里\uff1f在岛上\uff01") == [
        "灯塔有187级台阶。",
        "它在哪里\uff1f",
        "在岛上\uff01",
    ]


def test_lines_that_are_labels_stand_alone_and_wrapped_lines_do_not() -> None:
    assert cut("Phone: 12 34\nHours: 9 to 5") == ["Phone: 12 34", "Hours: 9 to 5"]
    assert cut("A sentence that\nis wrapped.") == ["A sentence that\nis wrapped."]
    assert cut("hard break  \nnext") == ["hard break", "next"]


@given(st.text(max_size=200))
def test_sentences_cover_all_but_blanks(text: str) -> None:
    spans = list(sentences(text, 0, len(text)))
    assert all(a < b for a, b in spans)
    assert all(b <= c for (_, b), (c, _) in pairwise(spans))
    covered = "".join(text[a:b] for a, b in spans)
    assert "".join(text.split()).replace(">", "") == "".join(covered.split()).replace(">", "")
