"""A chunk and a generator -> pairs that were cleaned, checked and scored, ready to be stored.

quality = 0.35 length + 0.45 grounding + 0.20 diversity

length      how far the answer is from too short (under 15 characters: 0, from 40 on: 1) and from
            rambling (from 1,500 on falling, 0.3 from 4,000 on)
grounding   see `grounding_score`
diversity   1 minus the greatest overlap of words with another question of the chunk
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from shared.datasets.duplicates import normal
from shared.datasets.reasoning import with_reasoning
from shared.datasets.row_rules import MAX_TOKENS
from shared.documents.quality import words
from shared.generation.grounding.check import ungrounded
from shared.generation.safety import clean_text, is_suspicious, sanitised
from shared.generation.source import Draft, Generator, SourceChunk, Verdict
from shared.tokens import count_tokens

_MIN_GROUNDING = 0.35
_MIN_GROUNDING_LEFT = 0.75
_MIN_WORDS_LEFT = 12  # of a chunk that speaks to language models: fewer are no source
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][\w'-]+")
_QUOTED = re.compile(r"[\"\u201c\u00ab]([^\"\u201d\u00bb]{3,80})[\"\u201d\u00bb]")


@dataclass(frozen=True)
class MadePairs:
    """The pairs of a chunk as `save_chunk_pairs` takes them, and what they took."""

    pairs: list[dict[str, Any]] = field(default_factory=list)
    filtered_count: int = 0  # refused: unreadable, empty or suspicious
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def usage(self) -> dict[str, int]:
        return {
            "filtered_count": self.filtered_count,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
        }


async def make_pairs(
    chunk: SourceChunk, generator: Generator, count: int, *, system_prompt: str | None
) -> MadePairs:
    """At most `count` pairs of the chunk. Whether they repeat others is told when all chunks are done.

    Raises ProviderUnavailable and ProviderRejected as the generator does.
    """
    if chunk.is_blanked and len(words(chunk.content)) < _MIN_WORDS_LEFT:
        return MadePairs()
    made = await generator.draft(chunk, count)
    cleaned = [clean for draft in made.drafts if (clean := sanitised(draft)) is not None]
    safe = [draft for draft in cleaned if not is_suspicious(draft, chunk) and not _is_smuggled(draft, chunk)]
    judged = await generator.judge(chunk, safe)
    pairs = []
    for ordinal, draft in enumerate(safe):
        others = [other.turns[0][0] for other in safe if other is not draft]
        verdict = judged.of[ordinal] if judged.of else None
        pairs.append(_pair(ordinal, draft, chunk, generator, system_prompt, others, verdict))
    return MadePairs(
        pairs,
        made.refused_count + len(made.drafts) - len(safe),
        made.prompt_tokens + judged.prompt_tokens,
        made.completion_tokens + judged.completion_tokens,
    )


def grounding_score(answer: str, source: str) -> float:
    """How much of the answer is found in its source: 0 to 1.

    0.5 of it is the share of its words, 0.25 that of its numbers, 0.15 that of its names, 0.1 that of what it
    quotes. A kind that the answer does not have counts as found. Words of up to three letters are left out.
    """
    known = set(words(source))
    shares = (
        (0.5, _share([word in known for word in words(answer) if len(word) > 3 or not word.isascii()])),
        (0.25, _share([number in source for number in _NUMBER.findall(answer)])),
        (0.15, _share([name.lower() in known for name in _NAME.findall(answer)])),
        (0.1, _share([normal(quote) in normal(source) for quote in _QUOTED.findall(answer)])),
    )
    return round(sum(weight * share for weight, share in shares), 4)


def quality_score(answer: str, grounding: float, question: str, others: list[str]) -> float:
    """The score of a pair, by the formula above."""
    score = 0.35 * _length(len(answer)) + 0.45 * grounding + 0.20 * _diversity(question, others)
    return round(min(1.0, score), 4)


def _pair(
    ordinal: int,
    draft: Draft,
    chunk: SourceChunk,
    generator: Generator,
    system_prompt: str | None,
    others: list[str],
    verdict: Verdict | None,
) -> dict[str, Any]:
    answers = "\n".join(assistant for _, assistant in draft.turns)
    messages = _messages(draft, system_prompt)
    token_count = sum(count_tokens(message["content"]) for message in messages)
    grounding = grounding_score(answers, chunk.grounds)
    details = _ungrounded(draft, chunk.grounds, system_prompt)
    if verdict is not None and not verdict.is_supported:
        details["judge_unsupported"] = [clean_text(verdict.reason)]
    issues = list(details)
    if grounding < _MIN_GROUNDING:
        issues.append("not_grounded")
    if token_count > MAX_TOKENS:
        issues.append("too_long")
    is_single = len(draft.turns) == 1
    question, _ = draft.turns[0]
    return {
        "ordinal": ordinal,
        "messages": None if is_single else messages,
        "system_message": system_prompt if is_single else None,
        "user_message": question if is_single else None,
        "assistant_message": messages[-1]["content"] if is_single else None,
        "char_start": draft.char_start,
        "char_end": draft.char_end,
        "quality_score": quality_score(answers, grounding, question, others),
        "grounding_score": grounding,
        "judge_score": None if verdict is None else float(verdict.is_supported),
        "token_count": token_count,
        "is_valid": not issues,
        "issues": issues,
        "issue_details": details,
        "generator": generator.name,
        "prompt_hash": generator.prompt_hash,
    }


def _is_smuggled(draft: Draft, chunk: SourceChunk) -> bool:
    """Whether a pair from a chunk that speaks to models says anything that the rest of it does not, be it in
    the question: there an injected text would come in, so such a pair is not even stored."""
    if not chunk.is_blanked:
        return False
    said = [*(message for turn in draft.turns for message in turn), *draft.reasoning]
    answers = "\n".join(answer for _, answer in draft.turns)
    return grounding_score(answers, chunk.grounds) < _MIN_GROUNDING_LEFT or any(
        ungrounded(message, chunk.grounds) for message in said
    )


def _ungrounded(draft: Draft, source: str, system_prompt: str | None) -> dict[str, list[str]]:
    """Of all turns, what the assistant says beyond the source and what the user has said so far."""
    found: dict[str, list[str]] = {}
    asked: list[str] = []
    for (user, assistant), thought in zip(draft.turns, draft.thoughts, strict=True):
        asked.append(user)
        said_before = "\n".join(asked)
        for rule, said in ungrounded(assistant, source, said_before, system_prompt or "").items():
            found.setdefault(rule, []).extend(said)
        thoughts = ungrounded(thought, source, said_before, system_prompt or "")
        if beyond := [
            said for rule, these in thoughts.items() if rule != "number_misplaced" for said in these
        ]:
            found.setdefault("reasoning_not_in_source", []).extend(beyond)
    return found


def _messages(draft: Draft, system_prompt: str | None) -> list[dict[str, str]]:
    messages = [{"role": "system", "content": system_prompt}] if system_prompt else []
    for (user, assistant), thought in zip(draft.turns, draft.thoughts, strict=True):
        messages += [
            {"role": "user", "content": user},
            {"role": "assistant", "content": with_reasoning(thought, assistant)},
        ]
    return messages


def _share(found: list[bool]) -> float:
    return sum(found) / len(found) if found else 1.0


def _length(chars: int) -> float:
    if chars < 40:
        return max(0.0, (chars - 15) / 25)
    return max(0.3, 1.0 - max(0, chars - 1_500) / 2_500 * 0.7)


def _diversity(question: str, others: list[str]) -> float:
    mine = set(words(question))
    return 1.0 - max((_overlap(mine, set(words(other))) for other in others), default=0.0)


def _overlap(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other) if one | other else 1.0
