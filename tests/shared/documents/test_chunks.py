from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.documents.chunks import content_hash, split
from shared.documents.text import Text

HANDBOOK = (Path(__file__).parents[3] / "examples/handbook.md").read_text()
NASTY = st.text(
    alphabet=st.sampled_from(
        [*"#-*`>|<=_[]() \t\r\nab.", "é", "👩", "\u200d", "\u202e", "\u200b", "。", "\ufeff"]
    ),
    max_size=400,
)


def test_a_handbook_is_cut_at_its_headings() -> None:
    chunks = split(Text(HANDBOOK, is_markdown=True))
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
    assert all(chunk.content.startswith(("# ", "## ")) for chunk in chunks)
    assert chunks[1].heading_path == ("The Handbook of Skerrow Light", "The lamp")
    assert all(chunk.quality_score > 0.8 and not chunk.injection_flags for chunk in chunks)


@settings(max_examples=200, deadline=None)
@given(NASTY, st.booleans(), st.integers(1, 3))
def test_spans_point_back_exactly_and_leave_out_only_blanks(text: str, is_markdown: bool, times: int) -> None:
    text = text * times
    at = 0
    for chunk in split(Text(text, is_markdown), max_tokens=16):
        assert chunk.content == text[chunk.char_start : chunk.char_end] != ""
        assert chunk.char_start >= at
        assert not text[at : chunk.char_start].strip("\ufeff \t\r\n\u200b")
        at = chunk.char_end
    assert not text[at:].strip("\ufeff \t\r\n\u200b")


@pytest.mark.parametrize(
    "text", ["a" * 90_000, "x " * 45_000, "word\n\n" * 15_000, "# h\n\ntext\n\n" * 8_000]
)
def test_a_long_text_without_structure_is_cut_all_the_same(text: str) -> None:
    chunks = split(Text(text, is_markdown=True))
    assert all(chunk.content == text[chunk.char_start : chunk.char_end] for chunk in chunks)
    assert sum(len("".join(chunk.content.split())) for chunk in chunks) == len("".join(text.split()))


def test_the_heading_path_follows_levels_and_ignores_code() -> None:
    text = (
        "# A\n\n"
        + "a b c. " * 40
        + "\n\n## B\n\n```\n# no\n```\n"
        + "d e f. " * 40
        + "\n\nC\n===\n\n"
        + "g h. " * 40
    )
    chunks = split(Text(text, True), max_tokens=150)
    assert {
        (chunk.content.rstrip(". ")[-1], chunk.heading_path) for chunk in chunks if "." in chunk.content
    } == {
        ("c", ("A",)),
        ("f", ("A", "B")),
        ("h", ("C",)),
    }


def test_plain_text_has_no_headings() -> None:
    assert {chunk.heading_path for chunk in split(Text(HANDBOOK, is_markdown=False))} == {()}


def test_the_hash_is_that_of_what_a_reader_sees() -> None:
    assert content_hash("The  Tower\nﬁts") == content_hash("the tower fits ")
    assert content_hash("the tower") != content_hash("the towers")
