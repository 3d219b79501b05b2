"""How many of the labelled pieces the rules tell right. Fewer than before is a fault of a change."""

from shared.documents.injection import injection_flags
from tests.shared.documents.injection_corpus import ATTACKS, BENIGN


def test_precision_and_recall_on_the_corpus() -> None:
    assert len(set(ATTACKS) | set(BENIGN)) == len(ATTACKS) + len(BENIGN) >= 300
    caught = sum(bool(injection_flags(text)) for text in ATTACKS)
    mistaken = sum(bool(injection_flags(text)) for text in BENIGN)
    precision, recall = caught / (caught + mistaken), caught / len(ATTACKS)
    print(
        f"injection corpus: {len(ATTACKS)} attacks, {len(BENIGN)} benign; "
        f"precision {precision:.3f}, recall {recall:.3f}"
    )
    assert precision >= 0.98
    assert recall >= 0.95
