"""How many of the wrong numbers that are planted in good answers are found, and how many good ones suffer."""

from __future__ import annotations

from collections import Counter
from itertools import chain

from shared.generation.grounding.check import ungrounded
from tests.conftest import Figure
from tests.shared.generation.grounding.good_pairs import (
    GUIDE,
    HANDBOOK,
    GoodPair,
    extracted,
    of_other_texts,
    paraphrased,
)
from tests.shared.generation.grounding.mutations import mutations


def is_refused(answer: str, pair: GoodPair) -> bool:
    return bool(ungrounded(answer, pair.source, pair.question))


def caught(pairs: list[GoodPair]) -> tuple[Counter[str], Counter[str]]:
    """By kind of mutation, how many were planted and how many of these were found."""
    planted: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for pair in pairs:
        for kind, wrong in mutations(pair):
            planted[kind] += 1
            found[kind] += is_refused(wrong, pair)
    return planted, found


def test_planted_numbers_are_caught_and_good_pairs_pass(figure: Figure) -> None:
    groups = {
        "sentences": [*extracted(HANDBOOK), *extracted(GUIDE)],
        "paraphrases": [*paraphrased(HANDBOOK), *paraphrased(GUIDE)],
        "other texts": list(of_other_texts()),
    }
    planted, found = Counter[str](), Counter[str]()
    for name, pairs in groups.items():
        new_planted, new_found = caught(pairs)
        planted += new_planted
        found += new_found
        refused = sum(is_refused(pair.answer, pair) for pair in pairs)
        figure(
            f"grounding, {name}: {new_found.total()} of {new_planted.total()} errors caught"
            f" ({new_found.total() / new_planted.total():.2%}),"
            f" {refused} of {len(pairs)} good pairs refused"
        )
    good = list(chain.from_iterable(groups.values()))
    false_positives = sum(is_refused(pair.answer, pair) for pair in good) / len(good)
    kinds = ", ".join(f"{kind} {found[kind]}/{planted[kind]}" for kind in sorted(planted))
    figure(f"grounding, by kind: {kinds}")
    figure(
        f"grounding: {found.total()} of {planted.total()} = {found.total() / planted.total():.2%} caught,"
        f" {false_positives:.2%} of {len(good)} good pairs refused"
    )
    assert planted.total() >= 1000
    assert found.total() / planted.total() >= 0.99
    assert false_positives <= 0.03
