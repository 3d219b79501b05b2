"""A document's text -> the pieces that pairs are made from, each with the exact place it came from."""

from __future__ import annotations

import hashlib
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from semantic_text_splitter import MarkdownSplitter, TextSplitter

from shared.documents.injection import flagged, injection_scores
from shared.documents.markdown import Block, blocks, heading_title
from shared.documents.quality import quality_factors, quality_score
from shared.documents.text import Text
from shared.tokens import count_tokens

CHUNK_TOKENS = 256
# The splitter's time grows with the square of a text without structure, so it sees this much at once.
_WINDOW_CHARS = 20_000
_MAX_HEADINGS = 12


@dataclass(frozen=True)
class Chunk:
    """A row of `chunks`: content == text[char_start:char_end]."""

    ordinal: int
    content: str
    content_hash: str
    char_start: int
    char_end: int
    heading_path: tuple[str, ...]  # the headings that it stands under, outermost first
    token_count: int
    quality_score: float
    quality_factors: dict[str, float]
    injection_flags: tuple[str, ...]
    injection_scores: dict[str, float]  # what each rule found, also where that is too little for a flag

    def as_row(self) -> dict[str, Any]:
        return asdict(self)


def split(text: Text, *, max_tokens: int = CHUNK_TOKENS) -> list[Chunk]:
    """Pieces of at most max_tokens (o200k), cut where the structure of the text is strongest.

    They overlap nowhere and leave out nothing but blanks.
    """
    headings = [b for b in blocks(text.content) if b.kind == "heading"] if text.is_markdown else []
    outline = _Outline(text.content, headings)
    splitter = _splitter(text.is_markdown, max_tokens)
    hidden = list(text.hidden[::-1])
    found: list[Chunk] = []
    for window_start, window_end in _windows(text.content, headings):
        for start, content in splitter.chunk_indices(text.content[window_start:window_end]):
            at = window_start + start
            words = []
            while hidden and hidden[-1][0] < at + len(content):
                words.append(hidden.pop()[1])
            found.append(_chunk(len(found), content, at, outline, words))
    return found


def content_hash(text: str) -> str:
    """SHA-256 of what a reader sees: equal for texts that differ in case, blanks or Unicode form only."""
    normal = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return hashlib.sha256(normal.encode()).hexdigest()


def _chunk(ordinal: int, content: str, start: int, outline: _Outline, hidden: Sequence[str]) -> Chunk:
    token_count = count_tokens(content)
    factors = quality_factors(content, token_count)
    scores = injection_scores(content, hidden)
    return Chunk(
        ordinal=ordinal,
        content=content,
        content_hash=content_hash(content),
        char_start=start,
        char_end=start + len(content),
        heading_path=outline.path_for(start, start + len(content)),
        token_count=token_count,
        quality_score=quality_score(factors),
        quality_factors=factors,
        injection_flags=tuple(flagged(scores)),
        injection_scores=scores,
    )


class _Outline:
    """The headings in force, for spans that are asked for in reading order."""

    def __init__(self, text: str, headings: list[Block]) -> None:
        self._text = text
        self._ahead = headings[::-1]
        self._stack: list[tuple[int, str]] = []

    def path_for(self, start: int, end: int) -> tuple[str, ...]:
        """The headings above the first text of the span, with those that the span itself begins with."""
        while self._ahead and self._ahead[-1].start <= end:
            heading = self._ahead[-1]
            if heading.start >= start and self._text[start : heading.start].strip(" \t\r\n#=-"):
                break  # text comes before it
            self._ahead.pop()
            while self._stack and self._stack[-1][0] >= heading.level:
                self._stack.pop()
            self._stack.append((heading.level, heading_title(self._text, heading)))
            start = max(start, heading.end)
        return tuple(title for _, title in self._stack if title)[-_MAX_HEADINGS:]


@lru_cache(maxsize=8)
def _splitter(is_markdown: bool, max_tokens: int) -> MarkdownSplitter | TextSplitter:
    """Counts with the o200k vocabulary that it carries. A piece over half of the limit is full enough."""
    capacity = (max_tokens // 2, max_tokens)
    kind = MarkdownSplitter if is_markdown else TextSplitter
    return kind.from_tiktoken_model("gpt-4o", capacity)


def _windows(text: str, headings: list[Block]) -> Iterator[tuple[int, int]]:
    """Spans that cover the text; cut at a heading, else a blank line, else a line, else anywhere."""
    starts = [text.rfind("\n", 0, heading.start) + 1 for heading in headings]
    begin = 0
    while len(text) - begin > _WINDOW_CHARS:
        limit = begin + _WINDOW_CHARS
        at = bisect_right(starts, limit)
        cut = starts[at - 1] if at else begin
        if cut <= begin:
            cut = max(text.rfind("\n\n", begin, limit), text.rfind("\n\r\n", begin, limit)) + 1
        if cut <= begin:
            cut = text.rfind("\n", begin, limit) + 1
        if cut <= begin:
            cut = limit
        yield begin, cut
        begin = cut
    yield begin, len(text)
