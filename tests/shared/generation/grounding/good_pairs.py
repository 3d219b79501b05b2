"""Pairs that say what their source says: sentences of the documents, and paraphrases written by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from shared.documents.chunks import Chunk, split
from shared.documents.text import Text
from shared.generation.extractive.generator import extract
from shared.generation.source import SourceChunk

ROOT = Path(__file__).parents[4]
HANDBOOK, GUIDE = "examples/handbook.md", "examples/visitor-guide.md"


@dataclass(frozen=True)
class GoodPair:
    question: str
    answer: str
    source: str  # the chunk with the headings above it
    is_english: bool = True


@lru_cache(maxsize=8)
def chunks_of(document: str) -> list[Chunk]:
    return split(Text((ROOT / document).read_text(encoding="utf-8"), is_markdown=True))


def source_of(chunk: Chunk) -> str:
    return "\n".join((*chunk.heading_path, "", chunk.content))


def extracted(document: str, *, a_chunk: int = 10) -> Iterator[GoodPair]:
    for chunk in chunks_of(document):
        for draft in extract(SourceChunk(chunk.content, chunk.char_start, chunk.heading_path), a_chunk):
            ((question, answer),) = draft.turns
            yield GoodPair(question, answer, source_of(chunk))


def paraphrased(document: str) -> Iterator[GoodPair]:
    """A phrase of the chunk, a question, and an answer in other words: so the file has them."""
    for phrase, question, answer in _data("paraphrases.json")[document]:
        (chunk,) = (chunk for chunk in chunks_of(document) if phrase in chunk.content)
        yield GoodPair(question, answer, source_of(chunk))


def of_other_texts() -> Iterator[GoodPair]:
    """Other kinds of text, written after the check was tuned on the documents above."""
    for source, pairs in _data("other_texts.json").items():
        for question, answer in pairs:
            yield GoodPair(question, answer, source, is_english=source.startswith("# Pump"))


def _data(name: str) -> dict[str, list[list[str]]]:
    found: dict[str, list[list[str]]] = json.loads((Path(__file__).parent / name).read_text(encoding="utf-8"))
    return found
