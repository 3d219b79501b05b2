"""Near-duplicates against exact Jaccard over all pairs, on texts whose likeness is planted."""

import random
import subprocess
import sys
from itertools import combinations

import pytest

from shared.datasets.duplicates import NEAR_SIMILARITY, Texts, clusters, normal
from tests.shared.datasets.planted import edited, sentence


def planted(rng: random.Random, originals: int) -> list[str]:
    """Texts of 40-90 words, each followed by one with 1-8 of its words replaced."""
    texts = []
    for _ in range(originals):
        words = sentence(rng, rng.randint(40, 90))
        texts += [" ".join(words), " ".join(edited(rng, words, rng.randint(1, 8)))]
    return texts


def test_nearly_all_pairs_are_found_and_no_other() -> None:
    texts = Texts()
    numbers = [texts.add(text) for text in planted(random.Random(5), 400)]
    wanted = {
        (first, second)
        for first, second in combinations(numbers, 2)
        if texts.similarity(first, second) >= NEAR_SIMILARITY
    }
    found = {(pair.first, pair.second) for pair in texts.near_pairs()}
    assert found <= wanted
    assert len(wanted) > 150
    assert len(found) >= 0.95 * len(wanted)


def test_the_order_of_the_texts_does_not_matter() -> None:
    texts = planted(random.Random(6), 100)
    shuffled = random.Random(7).sample(texts, len(texts))

    def groups(order: list[str]) -> set[frozenset[str]]:
        members: dict[int, set[str]] = {}
        for text, first in zip(order, clusters((text, None) for text in order), strict=True):
            members.setdefault(first, set()).add(text)
        return set(map(frozenset, members.values()))

    assert groups(texts) == groups(shuffled)


def test_another_process_finds_the_same() -> None:
    program = (
        "from shared.datasets.duplicates import Texts; t = Texts(); t.add('one two three four five');"
        "print(sorted(t._shingles_of('one two three four five')))"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ("Where is the key?", "where  is the\nKEY?", True),
        ("ﬁne \u00e9", "fine e\u0301", True),
        ("hi", "hi there", False),
        ("one two", "two one", False),
        ("", "  ", True),
        ("!!!", "???", False),
        ("今天天气很好我们一起去公园散步吧", "今天天气很好我们一起去公园散步", True),
        ("今天天气很好我们一起去公园散步吧", "明天下雨所以大家都留在家里看书写字", False),
        ("วันนี้อากาศดีมากเราไปสวนสาธารณะกัน", "วันนี้อากาศดีมากเราไปสวนสาธารณะกันนะ", True),
        ("a lone \ud800 surrogate here", "a lone \ud800 surrogate  here", True),
    ],
)
def test_what_counts_as_the_same(one: str, other: str, are_one: bool) -> None:
    assert (clusters([(one, None), (other, None)]) == [0, 0]) is are_one


def test_sources_and_chains_join() -> None:
    base = sentence(random.Random(8), 60)
    step, further = " ".join([*base[:55], *"abcde"]), " ".join([*base[5:55], *"vwxyzabcde"])
    assert clusters([(" ".join(base), None), ("x", "d"), (step, None), ("y", "d"), (further, None)]) == [
        0,
        1,
        0,
        1,
        0,
    ]


def test_boilerplate_does_not_take_forever() -> None:
    rng = random.Random(9)
    shared = " ".join(sentence(rng, 60))
    found = clusters((f"{shared} {' '.join(sentence(rng, 30))}", None) for _ in range(500))
    assert len(found) == 500


def test_normal_text_is_a_fixed_point() -> None:
    for text in ("  A\tB ", "İstanbul", "ﬁ"):
        assert normal(normal(text)) == normal(text)
