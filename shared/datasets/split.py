"""Rows into train, validation and test, so that nothing of one is known from another.

Rows of one source document, and rows that say nearly the same, form a group; a group is never divided. Its
split follows from the seed and from its key: the source of its first row, or else that row's text. So rows
that are appended leave the others where they are, whatever the counts come to. Two things move a row, both
rare:

- A new row that is like rows of two groups makes one group of them. It has the key of the earlier one, and
  the rows of the later one may change their split: otherwise the new row would leak.
- The first three groups of the file go to train, validation and test, so that a small dataset has all.
  Rows put before them, or a row that merges them, change which groups these are.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

from shared.datasets.duplicates import clusters, normal
from shared.datasets.model import SplitName
from shared.datasets.rows import PlainRow
from shared.errors import InvalidRequest

SPLITS: tuple[SplitName, ...] = get_args(SplitName)
_TOLERANCE = 1e-6
# What files call the three parts.
_NAMES: Mapping[str, SplitName] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "eval", "evaluation"), "validation"),
    **dict.fromkeys(("test", "testing", "holdout", "held_out"), "test"),
}


@dataclass(frozen=True)
class Fractions:
    """Shares of the rows, 0-1 each and 1 together; of 0, the split stays empty. Raises InvalidRequest."""

    train: float = 0.8
    validation: float = 0.1
    test: float = 0.1

    def __post_init__(self) -> None:
        if any(not 0 <= share <= 1 for share in self.shares) or abs(sum(self.shares) - 1) > _TOLERANCE:
            given = ", ".join(f"{name} {share:g}" for name, share in zip(SPLITS, self.shares, strict=True))
            raise InvalidRequest(f"The fractions must be from 0 to 1 and add up to 1: {given}.")

    @property
    def shares(self) -> tuple[float, float, float]:
        return self.train, self.validation, self.test

    @property
    def wanted(self) -> list[SplitName]:
        """The splits that are to have rows."""
        return [name for name, share in zip(SPLITS, self.shares, strict=True) if share > 0]

    def at(self, place: float) -> SplitName:
        """The split that has this place when they lie side by side from 0 to 1."""
        reached = 0.0
        for name, share in zip(SPLITS, self.shares, strict=True):
            reached += share
            if place < reached:
                return name
        return self.wanted[-1]


@dataclass(frozen=True)
class Split:
    """Where each row went. `groups` has the number, from 0, of the first row of each row's group."""

    of_row: list[SplitName]
    groups: list[int]

    @property
    def counts(self) -> dict[SplitName, int]:
        """Rows in each split."""
        found = Counter(self.of_row)
        return {name: found[name] for name in SPLITS}

    @property
    def group_counts(self) -> dict[SplitName, int]:
        """Groups in each split."""
        found = Counter(self.of_row[first] for first in set(self.groups))
        return {name: found[name] for name in SPLITS}


def split_rows(rows: Iterable[PlainRow], fractions: Fractions, seed: int) -> Split:
    """The split of each row, in the order given. With fewer groups than splits the last are empty."""
    keys: list[bytes] = []

    def seen() -> Iterator[tuple[str, str | None]]:
        for row in rows:
            keys.append(group_key(row.text, row.source))
            yield row.text, row.source

    groups = clusters(seen())
    of_group = assigned([(first, keys[first]) for first in sorted(set(groups))], fractions, seed, {})
    return Split([of_group[first] for first in groups], groups)


def assigned(
    groups: Iterable[tuple[int, bytes]], fractions: Fractions, seed: int, known: Mapping[int, SplitName]
) -> dict[int, SplitName]:
    """The split of each group, given by number and key: as it is known, else one that has no group yet, else
    as seed and key say."""
    found: dict[int, SplitName] = {}
    empty = [name for name in fractions.wanted if name not in known.values()]
    for number, key in groups:
        if number in known:
            found[number] = known[number]
        else:
            found[number] = empty.pop(0) if empty else fractions.at(_place(seed, key))
    return found


def named_split(value: object) -> SplitName | None:
    """The split that a file means by this value of its column; None when it means none."""
    return _NAMES.get(value.strip().casefold()) if isinstance(value, str) else None


def content_hash(rows: Iterable[tuple[SplitName, bytes]]) -> str:
    """SHA-256, in hex, of which line is in which split; the order of the lines does not matter."""
    entries = sorted(hashlib.sha256(name.encode() + b"\0" + raw).digest() for name, raw in rows)
    return hashlib.sha256(b"".join(entries)).hexdigest()


def group_key(text: str, source: str | None) -> bytes:
    """What a group is known by: the source of its first row, or else that row's text."""
    if source is not None:
        return b"source\0" + source.encode(errors="surrogatepass")
    return hashlib.sha256(normal(text).encode(errors="surrogatepass")).digest()


def _place(seed: int, key: bytes) -> float:
    """From 0 to below 1, evenly."""
    digest = hashlib.sha256(str(seed).encode() + b"\0" + key).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
