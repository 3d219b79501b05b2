"""What is stored to compare by does not change, and says what the texts say."""

import random

from shared.datasets.duplicates import Texts
from shared.datasets.sketches import sketches
from tests.shared.datasets.planted import edited, sentence

KEY = b"one project"


def test_the_values_stay_as_they_are() -> None:
    """Stored ones would not be found again: change this only with a migration that makes all anew."""
    (sketch,) = sketches(["The lamp was lit in 1871 by the keeper."], KEY)
    assert sketch.shingles[:3] == [-1908056473, -1821793753, -1445671301]
    assert (len(sketch.bands), sketch.bands[:2]) == (24, [30584368542972, 878043495534266])


def test_similarity_is_that_of_the_texts_and_those_alike_share_a_band() -> None:
    rng = random.Random(1)
    shared = 0
    for _ in range(200):
        words = sentence(rng, 80)
        texts = [" ".join(words), " ".join(edited(rng, words, rng.randint(1, 3)))]
        known = Texts()
        wanted = known.similarity(known.add(texts[0]), known.add(texts[1]))
        one, other = sketches(texts, KEY)
        mine, theirs = set(one.shingles), set(other.shingles)
        assert len(mine & theirs) / len(mine | theirs) == wanted
        shared += not set(one.bands).isdisjoint(other.bands)
    assert shared == 200


def test_equal_texts_and_texts_without_words() -> None:
    first, second, empty, other = sketches(["A tide table.", "a  TIDE table", "--", "A tide table."], KEY)
    assert first == second == other
    assert (empty.bands, empty.shingles) == ([], [])
    assert sketches([], KEY) == []
    assert sketches(["..."], KEY)[0].bands == []


def test_another_project_has_other_bands() -> None:
    (mine,) = sketches(["The tide turns at noon."], KEY)
    (theirs,) = sketches(["The tide turns at noon."], b"another project")
    assert mine.shingles == theirs.shingles
    assert set(mine.bands).isdisjoint(theirs.bands)
