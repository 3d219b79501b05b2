"""How many of the labelled pieces the rules tell right. Fewer than before is a fault of a change.

Three sets. Those from templates and "development" were looked at while the rules were written; "held_out" was
written before that and never looked at, so its figures are what to expect of texts that nobody here has seen.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from shared.documents import injection
from shared.documents.injection import injection_flags, injection_scores
from tests.conftest import Figure
from tests.shared.documents.injection_corpus import ATTACKS, BENIGN

BY_HAND = json.loads(Path(__file__).with_name("injection_by_hand.json").read_text(encoding="utf-8"))


def measured(name: str, attacks: list[str], benign: list[str], figure: Figure) -> tuple[float, float]:
    """Precision and recall."""
    assert len(set(attacks) | set(benign)) == len(attacks) + len(benign)
    caught = sum(bool(injection_flags(text)) for text in attacks)
    mistaken = sum(bool(injection_flags(text)) for text in benign)
    precision, recall = caught / (caught + mistaken), caught / len(attacks)
    figure(
        f"injection corpus, {name}: {len(attacks)} attacks, {len(benign)} benign; "
        f"precision {precision:.3f}, recall {recall:.3f}"
    )
    return precision, recall


def test_precision_and_recall_on_the_corpus(figure: Figure) -> None:
    development, held_out = BY_HAND["development"], BY_HAND["held_out"]
    sets = {
        "templates": (ATTACKS, BENIGN),
        "by hand, development": (development["attacks"], development["benign"]),
        "by hand, held out": (held_out["attacks"], held_out["benign"]),
    }
    found = {name: measured(name, attacks, benign, figure) for name, (attacks, benign) in sets.items()}
    attacks = [text for these, _ in sets.values() for text in these]
    benign = [text for _, these in sets.values() for text in these]
    precision, recall = measured("all", attacks, benign, figure)
    assert len(attacks) + len(benign) >= 300
    assert len(benign) >= 0.45 * (len(attacks) + len(benign))
    assert precision >= 0.97
    assert recall >= 0.95
    assert found["templates"] >= (0.98, 0.95)
    assert found["by hand, held out"] >= (0.85, 0.80)


def test_the_triggers_of_a_rule_leave_out_no_match(monkeypatch: pytest.MonkeyPatch) -> None:
    by_hand = [text for these in BY_HAND.values() for texts in these.values() for text in texts]
    texts = [*ATTACKS, *BENIGN, *by_hand]
    with_triggers = [injection_scores(text) for text in texts]
    everywhere = tuple(replace(rule, triggers=frozenset()) for rule in injection.RULES)
    monkeypatch.setattr(injection, "RULES", everywhere)
    assert [injection_scores(text) for text in texts] == with_triggers
