"""What speaks against training on a dataset, pair by pair, with what to do about it.

Errors block, warnings do not. Only usable pairs are looked at: those that are valid and not rejected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from shared.datasets.formats import Format, jsonl, turn_marker_in
from shared.datasets.model import Pair
from shared.datasets.store import pair_tokens

MIN_PAIRS = 10  # OpenAI's minimum, and the fewest that any method here learns from
MAX_PAIR_TOKENS = 4096
MAX_FILE_BYTES = 100 * 2**20
LISTED_A_RULE = 20
_LOW_SCORE = 0.3


@dataclass(frozen=True)
class Finding:
    """One thing that was found. pair_id and ordinal are None when it concerns the whole dataset."""

    rule: str
    message: str
    hint: str
    is_error: bool
    pair_id: UUID | None = None
    ordinal: int | None = None  # the place of the pair in the dataset, from 1, in the order of export


@dataclass(frozen=True)
class Stats:
    """Over the usable pairs; averages are 0 when there is none."""

    total_pairs: int
    avg_tokens_per_pair: float
    avg_quality_score: float  # of the pairs that have a score
    unique_questions: int
    excluded_pairs: int  # not valid, or rejected in review


@dataclass(frozen=True)
class Validation:
    """The result. Of each rule the first twenty findings are listed; `counts` has them all."""

    findings: list[Finding]
    counts: dict[str, int]
    stats: Stats

    @property
    def is_valid(self) -> bool:
        return not self.errors

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.is_error]

    @property
    def warnings(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.is_error]


def validate(pairs: list[Pair], format: Format) -> Validation:
    """Every rule over every usable pair, for training and for export in this format."""
    usable = [pair for pair in pairs if pair.is_usable]
    counts: Counter[str] = Counter()
    listed = []
    for finding in _findings(usable, format):
        counts[finding.rule] += 1
        if counts[finding.rule] <= LISTED_A_RULE:
            listed.append(finding)
    return Validation(listed, dict(counts), _stats(pairs, usable))


def normal(text: str) -> str:
    """The same for texts that differ only in case and blanks."""
    return " ".join(text.casefold().split())


def _stats(pairs: list[Pair], usable: list[Pair]) -> Stats:
    scores = [pair.quality_score for pair in usable if pair.quality_score is not None]
    return Stats(
        total_pairs=len(usable),
        avg_tokens_per_pair=round(sum(map(pair_tokens, usable)) / len(usable), 2) if usable else 0.0,
        avg_quality_score=round(sum(scores) / len(scores), 4) if scores else 0.0,
        unique_questions=len({normal(pair.question) for pair in usable}),
        excluded_pairs=len(pairs) - len(usable),
    )


def _findings(usable: list[Pair], format: Format) -> Iterator[Finding]:
    yield from _about_the_whole(usable, format)
    for place, pair in enumerate(usable, start=1):
        yield from _about_one(pair, place, format)
    yield from _about_neighbours(usable)


def _about_the_whole(usable: list[Pair], format: Format) -> Iterator[Finding]:
    if len(usable) < MIN_PAIRS:
        yield Finding(
            "too_few_pairs",
            f"The dataset has {len(usable)} usable pairs; at least {MIN_PAIRS} are needed.",
            "Add documents or rows, or approve pairs that were left out.",
            is_error=True,
        )
    if usable and all(pair.alternates and turn_marker_in(pair, format) is None for pair in usable):
        size = len(jsonl(usable, format))
        if size > MAX_FILE_BYTES:
            yield Finding(
                "file_too_large",
                f"As {format} the dataset has {size:,} bytes; a training file may have {MAX_FILE_BYTES:,}.",
                "Make two datasets of it, or shorten the longest pairs.",
                is_error=True,
            )
    systems = Counter(pair.system for pair in usable)
    if len(systems) > 1:
        usual, times = systems.most_common(1)[0]
        yield Finding(
            "mixed_system_prompts",
            f"{len(systems)} different system prompts; {times} of {len(usable)} pairs have the commonest"
            + (f", {usual[:60]!r}." if usual else " one, none."),
            "Use one system prompt in all pairs, and the same one when you ask the model.",
            is_error=False,
        )


def _about_one(pair: Pair, place: int, format: Format) -> Iterator[Finding]:
    def finding(rule: str, message: str, hint: str, *, is_error: bool) -> Finding:
        return Finding(rule, f"Pair {place}: {message}", hint, is_error, pair.id, place)

    if empty := next((message for message in pair.messages if not message.content.strip()), None):
        yield finding(
            "empty_message",
            f"the {empty.role} message is empty.",
            "Fill it in or reject the pair.",
            is_error=True,
        )
    if not pair.alternates:
        yield finding(
            "turn_order",
            "user and assistant do not take turns, or the assistant has not the last word.",
            "Put the messages in order or reject the pair.",
            is_error=True,
        )
    if (tokens := pair_tokens(pair)) > MAX_PAIR_TOKENS:
        yield finding(
            "too_long",
            f"{tokens:,} tokens; OpenAI takes {MAX_PAIR_TOKENS:,} and cuts off the rest.",
            "Shorten or split it.",
            is_error=format == "openai",
        )
    if marker := turn_marker_in(pair, format):
        yield finding(
            "turn_marker",
            f"it contains {marker.strip()!r}, which begins a turn in {format}.",
            "Take it out, or choose the format openai.",
            is_error=True,
        )
    if pair.quality_score is not None and pair.quality_score < _LOW_SCORE:
        yield finding(
            "low_quality", f"its quality is {pair.quality_score:.2f}.", "Edit or reject it.", is_error=False
        )
    if pair.grounding_score is not None and pair.grounding_score < _LOW_SCORE:
        yield finding(
            "low_grounding",
            f"only {pair.grounding_score:.0%} of its answer is found in its source.",
            "Check the answer against the document.",
            is_error=False,
        )


def _about_neighbours(usable: list[Pair]) -> Iterator[Finding]:
    """Pairs that say what an earlier pair said, or contradict it."""
    first: dict[tuple[str, str | None], tuple[int, str]] = {}
    for place, pair in enumerate(usable, start=1):
        # Two conversations that only begin alike are different.
        asked = normal(" ".join(turn.content for turn in pair.turns[:-1]))
        answer = normal(pair.turns[-1].content) if pair.turns else ""
        earlier_place, earlier_answer = first.setdefault((asked, pair.system), (place, answer))
        if earlier_place == place or not asked:
            continue
        if earlier_answer == answer:
            rule, says = "duplicate_pair", "the same"
            hint = "Reject one of them; a repeated pair weighs double in training."
        else:
            rule, says = "duplicate_question", "the same question with another answer"
            hint = "Make the questions tell the answers apart, or reject one."
        yield Finding(rule, f"Pair {place}: {says} as pair {earlier_place}.", hint, False, pair.id, place)
