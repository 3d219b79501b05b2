"""Pairs of a dataset that is split again and again while pairs are added."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.datasets.model import Message, Pair, SplitName
from shared.datasets.pair_split import Grouping, PairSplit, only_document, pair_leaks, split_pairs
from shared.datasets.split import Fractions
from shared.datasets.split_remarks import remarks
from tests.shared.datasets.planted import edited, sentence

THREE = Fractions()
BY_DOCUMENT = Grouping()


def pair(number: int, words: list[str], document: int | None = None, **changed: object) -> Pair:
    made = datetime(2026, 11, 29, tzinfo=UTC)
    half = len(words) // 2
    said = (Message("user", " ".join(words[:half])), Message("assistant", " ".join(words[half:])))
    of = UUID(int=document) if document else None
    return Pair(UUID(int=number + 1), made, number, said, document_id=of, **changed)


def placed(found: PairSplit) -> list[Pair]:
    """The pairs as their rows are once the split is saved."""
    return [replace(each, split=name) for each, name in zip(found.pairs, found.split.of_row, strict=True)]


def many(rng: random.Random, clusters: list[tuple[int, int]]) -> list[Pair]:
    """Clusters of so many pairs, each an edit of the one before; a number over 0 is their document."""
    made: list[Pair] = []
    for size, document in clusters:
        words = sentence(rng, rng.randint(2, 70))
        for _ in range(size):
            made.append(pair(len(made), words, document))
            words = edited(rng, words, min(len(words), rng.randint(0, 3)))
    return made


@given(
    seed=st.integers(0, 2**32),
    clusters=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 4)), min_size=2, max_size=25),
    data=st.data(),
)
@settings(max_examples=40, deadline=None)
def test_nothing_leaks_however_often_it_is_split(
    seed: int, clusters: list[tuple[int, int]], data: st.DataObject
) -> None:
    pairs = many(random.Random(seed), clusters)
    known = data.draw(st.integers(1, len(pairs)))
    first = split_pairs(pairs[:known], BY_DOCUMENT, THREE, seed)
    assert list(pair_leaks(placed(first), BY_DOCUMENT)) == []
    second = split_pairs([*placed(first), *pairs[known:]], BY_DOCUMENT, THREE, seed)
    assert list(pair_leaks(placed(second), BY_DOCUMENT)) == []
    stayed = sum(a == b for a, b in zip(first.split.of_row, second.split.of_row, strict=False))
    assert stayed == known - second.moved
    third = split_pairs(placed(second), BY_DOCUMENT, THREE, seed)
    assert (third.split, third.moved, third.content_hash) == (second.split, 0, second.content_hash)


def test_planted_paraphrases_are_found_across_parts_and_none_leaks_from_ours() -> None:
    rng = random.Random(8)
    pairs: list[Pair] = []
    for number in range(200):  # 1 to 3 words of 60 changed: exactly alike to 0.72 and more
        words = sentence(rng, 60)
        pairs.append(pair(len(pairs), words, split="train"))
        of: SplitName = "validation" if number % 2 else "test"
        pairs.append(pair(len(pairs), edited(rng, words, 1 + number % 3), split=of))
    told = {(first.ordinal, second.ordinal) for _, first, second in pair_leaks(pairs, BY_DOCUMENT)}
    assert told == {(2 * number, 2 * number + 1) for number in range(200)}
    ours = split_pairs([replace(each, split=None) for each in pairs], BY_DOCUMENT, THREE, 1)
    assert all(
        one == other for one, other in zip(ours.split.of_row[::2], ours.split.of_row[1::2], strict=True)
    )
    assert min(ours.split.counts.values()) > 20


def test_pairs_of_new_documents_move_no_other() -> None:
    rng = random.Random(1)
    pairs = many(rng, [(5, document) for document in range(1, 31)])
    first = split_pairs(pairs[:50], BY_DOCUMENT, THREE, 7)
    second = split_pairs([*placed(first), *pairs[50:]], BY_DOCUMENT, THREE, 7)
    assert (second.moved, second.split.of_row[:50]) == (0, first.split.of_row)
    assert set(second.split.of_row) == {"train", "validation", "test"}


def test_a_pair_that_joins_two_groups_takes_them_to_train() -> None:
    rng = random.Random(2)
    left, right = sentence(rng, 60), sentence(rng, 60)
    pairs = [pair(1, left, 1, split="test"), pair(2, right, 2, split="train"), pair(3, left[:-1], 2)]
    found = split_pairs(pairs, BY_DOCUMENT, THREE, 1)
    assert (found.split.of_row, found.moved) == (["train"] * 3, 1)
    assert [each.rule for each in remarks(found, BY_DOCUMENT, THREE)][-1] == "pairs_moved"


def test_a_document_that_is_alone_is_divided_by_section() -> None:
    rng = random.Random(3)
    pairs = [pair(n, sentence(rng, 40), 9, chunk_id=UUID(int=n // 2)) for n in range(40)]
    assert only_document(pairs) == UUID(int=9)
    grouping = Grouping(None, UUID(int=9), {UUID(int=n): f"section {n // 3}" for n in range(20)})
    found = split_pairs(pairs, grouping, THREE, 5)
    assert set(found.split.of_row) == {"train", "validation", "test"}
    assert len(set(found.split.groups)) == 7
    assert next(remarks(found, grouping, THREE)).rule == "one_document"
    # A second document is not divided, and nothing of the first one moves for it.
    more = [*placed(found), *(pair(100 + n, sentence(rng, 40), 10) for n in range(6))]
    later = split_pairs(more, grouping, THREE, 5)
    assert (later.moved, len(set(later.split.of_row[40:]))) == (0, 1)


def test_a_split_that_came_with_the_file_is_kept_where_it_does_not_leak() -> None:
    rng = random.Random(4)
    words = sentence(rng, 50)
    uploaded: list[Pair] = [
        pair(0, words, metadata={"split": "Training"}, split="train"),
        pair(1, edited(rng, words, 1), metadata={"split": "dev"}, split="validation"),
        pair(2, sentence(rng, 50), metadata={"split": "test"}, split="test"),
        pair(3, sentence(rng, 50), metadata={"split": 7}),
    ]
    ((leak, first, second),) = pair_leaks(uploaded, BY_DOCUMENT)
    assert (leak.kind, first.ordinal, second.ordinal) == ("near", 0, 1)
    for restart in (False, True):
        found = split_pairs(uploaded, BY_DOCUMENT, Fractions(0.8, 0, 0.2), 1, restart=restart)
        assert found.split.of_row == ["train", "train", "test", "train"]
        assert (found.moved, found.uploaded) == (1, 3)
        assert list(pair_leaks(placed(found), BY_DOCUMENT)) == []


def test_a_field_of_the_metadata_groups_beside_the_document() -> None:
    rng = random.Random(5)
    pairs = [
        pair(n, sentence(rng, 40), 1 + n % 8, metadata={"customer": f"c{n % 8 // 2}"}) for n in range(80)
    ]
    grouping = Grouping("customer")
    found = split_pairs(pairs, grouping, THREE, 3)
    assert len(set(found.split.groups)) == 4
    assert len(set(split_pairs(pairs, BY_DOCUMENT, THREE, 3).split.groups)) == 8


@pytest.mark.parametrize(
    ("documents", "rules"),
    [([30], ["too_few_groups", "fractions_missed"]), ([12, 9, 9], ["fractions_missed"])],
)
def test_parts_that_miss_their_share_are_told(documents: list[int], rules: list[str]) -> None:
    found = split_pairs(
        many(random.Random(6), [(n, at) for at, n in enumerate(documents, 1)]), BY_DOCUMENT, THREE, 1
    )
    assert [each.rule for each in remarks(found, BY_DOCUMENT, THREE)] == rules


def test_the_hash_is_of_what_is_said_and_where_not_of_ids() -> None:
    pairs = many(random.Random(7), [(1, 0)] * 6)
    found = split_pairs(pairs, BY_DOCUMENT, THREE, 1)
    again = [replace(each, id=UUID(int=99 - n)) for n, each in enumerate(pairs)]
    assert split_pairs(again, BY_DOCUMENT, THREE, 1).content_hash == found.content_hash
    elsewhere: list[SplitName] = ["test", "train", "train", "train", "train", "train"]
    swapped = [replace(each, split=name) for each, name in zip(pairs, elsewhere, strict=True)]
    assert split_pairs(swapped, BY_DOCUMENT, Fractions(0.8, 0, 0.2), 1).content_hash != found.content_hash
