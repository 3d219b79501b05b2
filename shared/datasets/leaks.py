"""What a model knows from its training file when it is asked the rows of the others.

Equal rows, near-duplicates, and rows that rest on the same source document, in two different files.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from shared.datasets.duplicates import Texts
from shared.datasets.rows import PlainRow

LeakKind = Literal["exact", "near", "source"]


@dataclass(frozen=True)
class Place:
    """A line of one of the files; `file` is its number, from 0, `line` is from 1."""

    file: int
    line: int


@dataclass(frozen=True)
class Leak:
    """Two lines of two files that know of one another; `first` is in the earlier file."""

    kind: LeakKind
    first: Place
    second: Place
    similarity: float  # Jaccard of their three-word shingles, 0-1; 1 when equal
    source: str | None = None  # the document, for kind 'source'


def find_leaks(files: Sequence[Iterable[PlainRow]]) -> Iterator[Leak]:
    """The leaks: equal rows first, then near ones, then sources.

    Of equal rows the first line of each file is named, and of a source's rows too; of near ones each pair.
    """
    texts = Texts()
    by_text: dict[Hashable, dict[int, Place]] = {}  # the first place in each file
    by_source: dict[Hashable, dict[int, tuple[Place, int]]] = {}
    for file, rows in enumerate(files):
        for row in rows:
            number, place = texts.add(row.text), Place(file, row.line)
            by_text.setdefault(number, {}).setdefault(file, place)
            if row.source is not None:
                by_source.setdefault(row.source, {}).setdefault(file, (place, number))
    for places in by_text.values():
        for first, second in _across(list(places.values())):
            yield Leak("exact", first, second, 1.0)
    yield from _near(texts, by_text)
    for source, numbered in by_source.items():
        number_at = dict(numbered.values())
        for first, second in _across(list(number_at)):
            similarity = texts.similarity(number_at[first], number_at[second])
            yield Leak("source", first, second, round(similarity, 4), str(source))


def _near(texts: Texts, by_text: dict[Hashable, dict[int, Place]]) -> Iterator[Leak]:
    def in_one_file(one: int, other: int) -> bool:
        return len(by_text[one].keys() | by_text[other].keys()) == 1

    for pair in texts.near_pairs(skip=in_one_file):
        for one in by_text[pair.first].values():
            for other in by_text[pair.second].values():
                if one.file != other.file:
                    first, second = sorted((one, other), key=lambda place: place.file)
                    yield Leak("near", first, second, round(pair.similarity, 4))


def _across(places: list[Place]) -> Iterator[tuple[Place, Place]]:
    """The first place with each of the later ones; files stand in order."""
    for later in places[1:]:
        yield places[0], later
