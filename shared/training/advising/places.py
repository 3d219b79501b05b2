"""Where a run can go: every place and GPU that holds it, and the cheapest that keeps to the limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shared.training import catalog
from shared.training.advising.model import Question
from shared.training.estimate import Estimate, on_gpu, on_this_machine
from shared.training.files import TrainingFile
from shared.training.prices import gpu_offers
from shared.training.sizing.gpus import CARDS
from shared.training.spec import RunSpec

LOCAL = "local"


@dataclass(frozen=True)
class Option:
    """One place for one run."""

    place: str
    gpu: str | None
    estimate: Estimate
    objection: str | None  # why it does not keep to what was asked; None: it does
    excess: float  # how many times as long or as dear as was asked; 1 or less: it keeps to that

    @property
    def rank(self) -> tuple[float, float]:
        """Cheaper first, then faster; the upper ends count."""
        unknown = float("inf")
        cost, seconds = self.estimate.cost_usd_high, self.estimate.duration_seconds_high
        return (unknown if cost is None else cost, unknown if seconds is None else seconds)


def options(question: Question, spec: RunSpec, file: TrainingFile) -> list[Option]:
    """Every option whose memory surely holds the run, the best first: those that keep to the limits before
    those that do not."""
    found = [
        Option(place, estimate.gpu, estimate, _objection(question, estimate), _excess(question, estimate))
        for place in question.places
        if catalog.misplaced(spec.base_model, place) is None
        for estimate in _estimates(question, spec, file, place)
    ]
    return sorted(found, key=lambda option: (max(1.0, option.excess), option.rank))


def _estimates(question: Question, spec: RunSpec, file: TrainingFile, place: str) -> Iterator[Estimate]:
    known = question.known(place, spec.root_base_model, spec.method)
    if place == LOCAL:
        here = on_this_machine(spec, file, known)
        memory = question.local_memory_bytes
        if memory is None or here.memory_bytes_high is None or here.memory_bytes_high <= memory:
            yield here
        return
    for offer in gpu_offers(place, 1):
        card = CARDS.get(offer.card or "")
        if card is None or not card.has_bfloat16:
            continue
        there = on_gpu(spec, file, provider=place, gpu=offer.gpu, known=known)
        if there.memory_bytes_high is not None and there.memory_bytes_high <= card.memory_bytes:
            yield there


def _objection(question: Question, estimate: Estimate) -> str | None:
    seconds, cost, budget = estimate.duration_seconds_high, estimate.cost_usd_high, question.budget_usd
    if seconds is None:
        return "how long it takes is not known"
    if seconds > question.patience_seconds:
        return f"it may take {_hours(seconds)}, and {_hours(question.patience_seconds)} are given"
    if budget is not None and cost is None:
        return "what it costs is not known"
    if budget is not None and cost is not None and cost > budget:
        return f"it may cost {cost:.2f} USD, and {budget:.2f} USD are given"
    return None


def _excess(question: Question, estimate: Estimate) -> float:
    seconds, cost, budget = estimate.duration_seconds_high, estimate.cost_usd_high, question.budget_usd
    if seconds is None or (budget is not None and cost is None):
        return float("inf")
    of_budget = cost / budget if budget is not None and cost is not None else 0.0
    return max(seconds / question.patience_seconds, of_budget)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{max(1, round(seconds / 60))} min"
