"""Texts that say the same: equal but for case and blanks, or alike in most of their three-word shingles.

Which pairs are looked at is decided by MinHash and bands (rensa), which pairs count by their exact Jaccard
similarity; neither changes with the process. A text takes 8 bytes a word and, while pairs are looked for,
480 for its signature; the text itself is not kept.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from array import array
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rensa import RMinHashDigestMatrix

NEAR_SIMILARITY = 0.7  # Jaccard, 0-1
_SHINGLE_UNITS = 3
# 24 bands of 5: of pairs at 0.7 1.2 % are missed ((1 - 0.7^5)^24), at 0.8 0.007 %.
_BANDS, _ROWS_A_BAND = 24, 5
_PERMUTATIONS = _BANDS * _ROWS_A_BAND
_MINHASH_SEED = 42
# Boilerplate puts thousands of texts into one bucket; a text looks back at so many of them, the latest first.
_LOOKS_A_BUCKET = 64
_CACHED_WORDS = 1_000_000
_SIGNED_AT_ONCE = 4096

# A word, or one letter of a script that puts no blanks between words: kana, Han, Thai, Lao, Khmer, Myanmar.
_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_UNIT = re.compile(f"[{_SPACELESS}]|[^\\W{_SPACELESS}]+")


class NearPair(NamedTuple):
    """Two different texts by their numbers, the lower first, and their exact Jaccard similarity."""

    first: int
    second: int
    similarity: float


def normal(text: str) -> str:
    """The same for texts that differ only in case, blanks and Unicode's ways to write one letter."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


class _WordHashes(dict[str, int]):
    """56 bits of BLAKE2 for each word, remembered: Python's own hash of a text changes with each process."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _CACHED_WORDS:
            self.clear()
        digest = hashlib.blake2b(word.encode(errors="surrogatepass"), digest_size=7).digest()
        value = self[word] = int.from_bytes(digest, "little")
        return value


class Texts:
    """Texts to be compared, numbered from 0 in the order in which they were added; equal ones once."""

    def __init__(self) -> None:
        self._number_of: dict[bytes, int] = {}
        self._word_hashes = _WordHashes()
        self._shingles = array("Q")
        self._ends = array("Q", [0])

    def __len__(self) -> int:
        return len(self._number_of)

    def add(self, text: str) -> int:
        """The number of this text: that of the first one that is equal when normalised."""
        wanted = normal(text)
        key = hashlib.sha256(wanted.encode(errors="surrogatepass")).digest()[:16]
        number = self._number_of.setdefault(key, len(self._number_of))
        if number == len(self._ends) - 1:
            # The hash of a tuple of integers is the same in each process, unlike that of a text.
            self._shingles.frombytes(array("q", self._shingles_of(wanted)).tobytes())
            self._ends.append(len(self._shingles))
        return number

    def similarity(self, first: int, second: int) -> float:
        """The exact Jaccard similarity of two texts' shingles, 0-1; 0 where one has no word at all."""
        return _jaccard(set(self._of(first)), self._of(second))

    def near_pairs(
        self,
        skip: Callable[[int, int], bool] = lambda first, second: False,
        similarity: float = NEAR_SIMILARITY,
    ) -> Iterator[NearPair]:
        """Pairs of different texts at least so similar, each once; those that `skip` tells are not looked at.

        `skip` is asked again for each pair, so it may follow from what was yielded before.
        """
        flagged, signatures = self._flagged()
        seen: set[tuple[int, int]] = set()
        known, shingles = -1, set[int]()  # of the second text, which stays for many candidates
        for first, second in _candidates(flagged, signatures):
            if (first, second) in seen or skip(first, second):
                continue
            if second != known:
                known, shingles = second, set(self._of(second))
            if (found := _jaccard(shingles, self._of(first), similarity)) >= similarity:
                seen.add((first, second))
                yield NearPair(first, second, found)

    def shingles(self, number: int) -> array[int]:
        """Hashes of each three words in a row of a text, unsigned, 64 bits, each once."""
        return self._of(number)

    def bands(self) -> Iterator[list[bytes]]:
        """Of each text, in order, what those alike probably share; nothing for a text without a word."""
        if not self._shingles:
            yield from ([] for _ in range(len(self)))
            return
        for number, row in enumerate(_signed(self._shingles, self._ends).to_rows()):
            signature = array("I", row)
            starts = range(0, _PERMUTATIONS if len(self._of(number)) else 0, _ROWS_A_BAND)
            yield [signature[start : start + _ROWS_A_BAND].tobytes() for start in starts]

    def _shingles_of(self, normal_text: str) -> set[int]:
        words = list(map(self._word_hashes.__getitem__, _UNIT.findall(normal_text)))
        if 0 < len(words) < _SHINGLE_UNITS:
            return {hash(tuple(words))}
        return set(map(hash, zip(words, islice(words, 1, None), islice(words, 2, None), strict=False)))

    def _of(self, number: int) -> array[int]:
        return self._shingles[self._ends[number] : self._ends[number + 1]]

    def _flagged(self) -> tuple[list[int], array[int]]:
        """The texts that share a band with another one, and their signatures one after the other."""
        if not self._shingles:
            return [], array("I")
        from rensa import RMinHashLSH

        bands = RMinHashLSH(NEAR_SIMILARITY, _PERMUTATIONS, _BANDS)
        flags = bands.query_duplicate_flags_matrix_one_shot(_signed(self._shingles, self._ends))
        # A text without a word has a signature too, that of all such texts.
        flagged = [number for number, flag in enumerate(flags) if flag and len(self._of(number))]
        signatures = array("I")
        for start in range(0, len(flagged), _SIGNED_AT_ONCE):
            shingles, ends = array("Q"), array("Q", [0])
            for number in flagged[start : start + _SIGNED_AT_ONCE]:
                shingles.extend(self._of(number))
                ends.append(len(shingles))
            for row in _signed(shingles, ends).to_rows():
                signatures.extend(row)
        return flagged, signatures


def _signed(shingles: array[int], ends: array[int]) -> RMinHashDigestMatrix:
    """The MinHash signature of each text."""
    from rensa import RMinHash

    return RMinHash.digest_matrix_from_flat_token_hashes(shingles, ends, _PERMUTATIONS, _MINHASH_SEED)


def _candidates(numbers: list[int], signatures: array[int]) -> Iterator[tuple[int, int]]:
    """Pairs that agree in a whole band; one that agrees in several comes several times."""
    for band in range(0, _PERMUTATIONS, _ROWS_A_BAND):
        buckets: defaultdict[bytes, list[int]] = defaultdict(list)
        for place, number in enumerate(numbers):
            start = place * _PERMUTATIONS + band
            bucket = buckets[signatures[start : start + _ROWS_A_BAND].tobytes()]
            for earlier in bucket[: -_LOOKS_A_BUCKET - 1 : -1]:
                yield earlier, number
            bucket.append(number)


def _jaccard(first: set[int], second: array[int], at_least: float = 0.0) -> float:
    """0 when their sizes alone rule out `at_least`."""
    smaller, larger = sorted((len(first), len(second)))
    if not smaller or smaller < at_least * larger:
        return 0.0
    common = len(first.intersection(second))
    return common / (smaller + larger - common)


class Groups:
    """Union-find: what was joined, directly or through others, has the same `first`: the lowest of them."""

    def __init__(self) -> None:
        self._above: list[int] = []

    def __len__(self) -> int:
        return len(self._above)

    def add(self) -> int:
        """A new member, numbered from 0, in a group of its own."""
        self._above.append(len(self._above))
        return len(self._above) - 1

    def first(self, member: int) -> int:
        above = self._above
        while above[member] != member:
            above[member] = above[above[member]]
            member = above[member]
        return member

    def join(self, one: int, other: int) -> None:
        lower, higher = sorted((self.first(one), self.first(other)))
        self._above[higher] = lower


def clusters(rows: Iterable[tuple[str, *tuple[Hashable | None, ...]]]) -> list[int]:
    """For each row, a text and its sources, the number of the first row of its cluster, or its own.

    Joined are equal texts, near ones, and those of one source (None: not known), also through others: the two
    ends of a chain may be less alike than NEAR_SIMILARITY.
    """
    texts, groups = Texts(), Groups()
    first_of_text: list[int] = []
    first_of_source: dict[Hashable, int] = {}
    for text, *sources in rows:
        row, number = groups.add(), texts.add(text)
        if number == len(first_of_text):
            first_of_text.append(row)
        groups.join(row, first_of_text[number])
        for source in sources:
            if source is not None:
                groups.join(row, first_of_source.setdefault(source, row))

    def joined(one: int, other: int) -> bool:
        return groups.first(first_of_text[one]) == groups.first(first_of_text[other])

    for pair in texts.near_pairs(skip=joined):
        groups.join(first_of_text[pair.first], first_of_text[pair.second])
    return [groups.first(row) for row in range(len(groups))]
