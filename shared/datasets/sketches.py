"""What stored texts are compared by, so that nobody reads them again: equal in every process, kept for good.

Another way to cut or to hash would find no stored text any more; a test keeps the values as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from shared.datasets.duplicates import Texts

_BAND_BITS = 53  # what every reader of JSON keeps exactly


@dataclass(frozen=True)
class Sketch:
    """Texts that are alike share a band, nearly always; how alike they are, their shingles say exactly."""

    bands: list[int]  # below 2^53; empty for a text without a word
    shingles: list[int]  # signed, 32 bits; each once, ascending


def sketches(texts: Iterable[str], key: bytes) -> list[Sketch]:
    """The sketch of each text. Bands are equal only under one key, of at most 64 bytes: that of a project."""
    known = Texts()
    numbers = [known.add(text) for text in texts]
    made = [
        Sketch(
            bands=[_number(place, band, key) for place, band in enumerate(bands)],
            shingles=sorted({_folded(shingle) for shingle in known.shingles(number)}),
        )
        for number, bands in enumerate(known.bands())
    ]
    return [made[number] for number in numbers]


def _number(place: int, band: bytes, key: bytes) -> int:
    digest = hashlib.blake2b(bytes([place]) + band, digest_size=8, key=key).digest()
    return int.from_bytes(digest, "little") >> (64 - _BAND_BITS)


def _folded(shingle: int) -> int:
    """32 of 64 bits: among the few hundred shingles of a text no two are taken for one."""
    low = (shingle ^ shingle >> 32) & 0xFFFFFFFF
    return low - 2**32 if low >= 2**31 else low
