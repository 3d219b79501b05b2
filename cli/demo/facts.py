"""What the demo found out: its last line, and whether it proved what it set out to prove."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from cli.backend.client import Client
from cli.demo.story import Story

RIGHT_NEEDED = 4


@dataclass
class Facts:
    """The last line of the demo. None: the story did not come that far."""

    document_words: int = 0
    chunks: int = 0
    pairs: int = 0
    valid: bool | None = None
    estimated_cost_usd: float | None = None
    job_id: str | None = None
    final_loss: float | None = None
    realtime_updates: int = 0
    realtime_p50_ms: float | None = None
    model_version: int | None = None
    questions: int = 0
    answers_right_before: int | None = None
    answers_right_after: int | None = None
    seconds: float = 0.0


@dataclass
class Telling:
    """One telling of the story: who acts, and what was found out so far."""

    story: Story
    client: Client
    dataset_name: str
    facts: Facts = field(default_factory=Facts)
    project: str = ""
    before: dict[str, str] = field(default_factory=dict)  # question -> answer


def median_ms(latencies_ms: Sequence[float]) -> float | None:
    """The middle latency with one decimal; None without any."""
    return round(statistics.median(latencies_ms), 1) if latencies_ms else None


def shortfall(facts: Facts) -> str | None:
    """Why the demo proved nothing; None when the model knew nothing before and answers after."""
    before, after = facts.answers_right_before, facts.answers_right_after
    if before:
        return f"The untrained model answered {before} questions, so the answers prove no training."
    needed = min(RIGHT_NEEDED, facts.questions)
    if not after or after < needed:
        return f"The tuned model answered {after or 0} of {facts.questions} questions; {needed} are needed."
    return None
