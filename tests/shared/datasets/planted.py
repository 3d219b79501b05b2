"""Rows whose likeness is planted."""

import random

from shared.datasets.rows import PlainRow

WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("n", "r", "sten", "lo")]


def sentence(rng: random.Random, words: int) -> list[str]:
    return [rng.choice(WORDS) for _ in range(words)]


def edited(rng: random.Random, words: list[str], edits: int) -> list[str]:
    """The same with so many words replaced."""
    changed = list(words)
    for place in rng.sample(range(len(words)), edits):
        changed[place] = rng.choice(WORDS) + "x"
    return changed


def text_row(text: str, source: str | None = None, line: int = 1) -> PlainRow:
    return PlainRow(line, text, source, text.encode())


def rows_of(rng: random.Random, clusters: list[tuple[int, int]]) -> list[PlainRow]:
    """Clusters of so many rows, each an edit of the one before; a number over 0 names their document."""
    rows = []
    for size, document in clusters:
        words = sentence(rng, rng.randint(1, 70))
        for _ in range(size):
            rows.append(
                text_row(" ".join(words), f"document {document}" if document else None, len(rows) + 1)
            )
            words = edited(rng, words, min(len(words), rng.randint(0, 3)))
    return rows
