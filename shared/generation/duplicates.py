"""Pairs of a dataset that ask what an earlier pair asks, in the order of the documents.

Which of two pairs is the earlier one follows from their places alone and never from which was made first, so
calls that work at the same time, are killed or start again end with the same pairs marked.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from shared.datasets.duplicates import Texts
from shared.db import PAGE_ROWS, Database, Row
from shared.documents.quality import words

DUPLICATE_RULES = ("duplicate_question", "near_duplicate")
_SAME_ANSWER = 0.5  # Jaccard similarity of the words of two answers from which on they are one
_WORD = re.compile(r"[^\W_]+")
_COLUMNS = "id,chunk_id,ordinal,user_message,assistant_message,messages,issues"


@dataclass(frozen=True)
class Asked:
    """What is compared of a pair. Of a conversation, all that the user says and all that is answered."""

    id: str
    place: tuple[int, int, str]  # of its chunk in the dataset, of the pair in its chunk, its id
    question: str
    answer: str
    is_sound: bool  # nothing but its likeness speaks against it: only such a pair makes others duplicates

    @classmethod
    def from_row(cls, row: Row, chunk_place: int) -> Asked:
        said: dict[str, list[str]] = {"user": [row["user_message"]], "assistant": [row["assistant_message"]]}
        if row["messages"] is not None:
            said = defaultdict(list)
            for message in row["messages"]:
                said[message["role"]].append(message["content"])
        return cls(
            id=row["id"],
            place=(chunk_place, row["ordinal"], row["id"]),
            question="\n".join(said["user"]),
            answer="\n".join(said["assistant"]),
            is_sound=not set(row["issues"]) - set(DUPLICATE_RULES),
        )


def duplicates(pairs: Iterable[Asked]) -> list[tuple[str, str]]:
    """The id of each pair that repeats an earlier one, and the rule that it breaks.

    duplicate_question: equal but for case and blanks. near_duplicate: alike in most three-word shingles, and
    either no word that counts differs or the answers are the same for the most part. A question that differs
    by a number or a name is another question.
    """
    ordered = sorted(pairs, key=lambda pair: pair.place)
    texts = Texts()
    pairs_of_text: dict[int, list[Asked]] = defaultdict(list)
    for pair in ordered:
        pairs_of_text[texts.add(pair.question)].append(pair)
    alike: dict[int, list[int]] = defaultdict(list)
    for near in texts.near_pairs():
        alike[near.second].append(near.first)
    rules: dict[str, str] = {}
    kept: dict[int, Asked] = {}  # of each text, the pair that makes others duplicates
    for number, same in pairs_of_text.items():
        for pair in same:
            if number in kept:
                rules[pair.id] = "duplicate_question"
            elif any(_is_repeated(kept[other], pair) for other in alike[number] if other in kept):
                rules[pair.id] = "near_duplicate"
            elif pair.is_sound:
                kept[number] = pair
    return [(pair.id, rules[pair.id]) for pair in ordered if pair.id in rules]


async def score_dataset(db: Database, dataset_id: UUID) -> None:
    """Repeated pairs are marked, and the dataset has its quality score. To be called when no pair is made
    any more; doing it twice changes nothing."""
    places = await _pages(db, "dataset_chunks", "id,chunk_id,ordinal", dataset_id)
    place_of = {row["chunk_id"]: row["ordinal"] for row in places}
    rows = await _pages(db, "training_pairs", _COLUMNS, dataset_id)
    # A chunk that was deleted meanwhile has no place; its pairs come last.
    pairs = [Asked.from_row(row, place_of.get(row["chunk_id"], len(place_of) + 1)) for row in rows]
    marks = [{"id": pair_id, "rule": rule} for pair_id, rule in duplicates(pairs)]
    await db.call("score_generated_dataset", dataset_id=str(dataset_id), duplicates=marks)


def _is_repeated(earlier: Asked, later: Asked) -> bool:
    differing = _counting_words(earlier.question) ^ _counting_words(later.question)
    if any(word[0].isupper() or not word.isalpha() for word in differing):
        return False
    if not differing:
        return True
    one, other = set(words(earlier.answer)), set(words(later.answer))
    return len(one & other) >= _SAME_ANSWER * len(one | other)


def _counting_words(question: str) -> set[str]:
    """The words that say what it asks about: names and numbers as they stand, others in lower case."""
    found: set[str] = set()
    for line in question.splitlines():
        # The first word is capital in any case.
        first, *rest = _WORD.findall(line) or [""]
        found.add(first.lower())
        found |= set(rest)
    return {word for word in found if len(word) > 3 or not word.isascii() or not word.islower()}


async def _pages(db: Database, table: str, columns: str, dataset_id: UUID) -> Sequence[Row]:
    """By id in pages, so that one that is added meanwhile shifts no other."""
    found: list[Row] = []
    while True:
        query = db.table(table).select(columns).eq("dataset_id", str(dataset_id)).order("id").limit(PAGE_ROWS)
        if found:
            query = query.gt("id", found[-1]["id"])
        rows = (await db.run(query)).data
        found += rows
        if len(rows) < PAGE_ROWS:
            return found
