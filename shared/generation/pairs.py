"""A chunk and a generator -> pairs that were cleaned, checked and scored, ready to be stored.

quality = 0.35 length + 0.45 grounding + 0.20 diversity

length      how far the answer is from too short (under 15 characters: 0, from 40 on: 1) and from
            rambling (from 1,500 on falling, 0.3 from 4,000 on)
grounding   see `grounding_score`
diversity   1 minus the greatest overlap of words with another question of the chunk
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any

from shared.datasets.checker import MAX_TOKENS
from shared.datasets.duplicates import normal
from shared.documents.injection import injection_flags
from shared.documents.quality import words
from shared.generation.grounding.check import ungrounded
from shared.generation.source import Draft, Generator, SourceChunk
from shared.tokens import count_tokens

_MAX_QUESTION_CHARS = 4_000
_MAX_ANSWER_CHARS = 16_000
_MIN_GROUNDING = 0.35
# What has no place in a message: controls but tab and line break, marks that are not seen, half characters.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2060-\u2064\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_ADDRESS = re.compile(r"https?://[^\s)>\]\"']+|www\.[^\s)>\]\"']+|[\w.+-]+@[\w-]+\.[\w.-]+")
_SECRET = re.compile(r"\b(?:sk-|hf_|AIza|ghp_|xox[abp]-|AKIA)[\w-]{8,}")
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
    made = await generator.draft(chunk, count)
    cleaned = [clean for draft in made.drafts if (clean := sanitised(draft)) is not None]
    safe = [draft for draft in cleaned if not is_suspicious(draft, chunk)]
    pairs = []
    for ordinal, draft in enumerate(safe):
        others = [other.turns[0][0] for other in safe if other is not draft]
        pairs.append(_pair(ordinal, draft, chunk, generator, system_prompt, others))
    filtered = made.refused_count + len(made.drafts) - len(safe)
    return MadePairs(pairs, filtered, made.prompt_tokens, made.completion_tokens)


def sanitised(draft: Draft) -> Draft | None:
    """The draft without unseen characters; None when a message is empty or over its limit then."""
    turns = tuple((_clean(user), _clean(assistant)) for user, assistant in draft.turns)
    for user, assistant in turns:
        if not user or not assistant or normal(user) == normal(assistant):
            return None
        if len(user) > _MAX_QUESTION_CHARS or len(assistant) > _MAX_ANSWER_CHARS:
            return None
    return Draft(turns, draft.char_start, draft.char_end)


def is_suspicious(draft: Draft, chunk: SourceChunk) -> bool:
    """Whether it carries what its source does not: an address, a key, or words to a language model."""
    said = "\n".join(message for turn in draft.turns for message in turn)
    if any(address.rstrip(".,;:!?") not in chunk.content for address in _ADDRESS.findall(said)):
        return True
    if any(secret not in chunk.content for secret in _SECRET.findall(said)):
        return True
    return bool(injection_flags(said))


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
) -> dict[str, Any]:
    answers = "\n".join(assistant for _, assistant in draft.turns)
    messages = _messages(draft, system_prompt)
    token_count = sum(count_tokens(message["content"]) for message in messages)
    grounding = grounding_score(answers, chunk.grounds)
    details = _ungrounded(draft, chunk.grounds, system_prompt)
    issues = list(details)
    if grounding < _MIN_GROUNDING:
        issues.append("not_grounded")
    if token_count > MAX_TOKENS:
        issues.append("too_long")
    is_single = len(draft.turns) == 1
    question, answer = draft.turns[0]
    return {
        "ordinal": ordinal,
        "messages": None if is_single else messages,
        "system_message": system_prompt if is_single else None,
        "user_message": question if is_single else None,
        "assistant_message": answer if is_single else None,
        "char_start": draft.char_start,
        "char_end": draft.char_end,
        "quality_score": quality_score(answers, grounding, question, others),
        "grounding_score": grounding,
        "token_count": token_count,
        "is_valid": not issues,
        "issues": issues,
        "issue_details": details,
        "generator": generator.name,
        "prompt_hash": generator.prompt_hash,
    }


def _ungrounded(draft: Draft, source: str, system_prompt: str | None) -> dict[str, list[str]]:
    """Of all turns, what the assistant says beyond the source and what the user has said so far."""
    found: dict[str, list[str]] = {}
    asked: list[str] = []
    for user, assistant in draft.turns:
        asked.append(user)
        for rule, said in ungrounded(assistant, source, "\n".join(asked), system_prompt or "").items():
            found.setdefault(rule, []).extend(said)
    return found


def _messages(draft: Draft, system_prompt: str | None) -> list[dict[str, str]]:
    messages = [{"role": "system", "content": system_prompt}] if system_prompt else []
    for user, assistant in draft.turns:
        messages += [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
    return messages


def _clean(message: str) -> str:
    return _UNSEEN.sub("", unicodedata.normalize("NFC", message.replace("\r\n", "\n"))).strip()


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
