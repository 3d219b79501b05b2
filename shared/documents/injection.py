"""Signs that a text speaks to a language model rather than to its reader.

Advisory: small scored rules that tell a person where to look and keep a chunk out of generation. What
holds is elsewhere: untrusted text is fenced, answers are checked against their source, no tool is near.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from shared.documents.disguises import BIDI_OVERRIDE, HIDDEN, as_seen, has_tag_characters, undisguised
from shared.documents.injection_rules import RULES, Rule

THRESHOLD = 1.0  # flags are raised from this score on; a rule below it needs a second one near it
_PASSAGE_CHARS = 400  # how near; from the beginning of a sentence on
_DISGUISE_WEIGHT = 0.5

_COMMENT = re.compile(r"<!--(.*?)(?:-->|\Z)", re.S)
_INVISIBLE_ELEMENT = re.compile(
    r"<[a-z][^<>]{0,500}(display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0|opacity\s*:\s*0\b"
    r"|color\s*:\s*(#fff(fff)?|white|transparent)\b|\shidden\b)",
    re.I,
)
_COMMANDS = re.compile(
    r"\b(ignore (the|all|any|every|previous|prior|above)|instructions?|prompt|assistant|language model"
    r"|chatbot|AI|LLM|you (must|are)|respond|when asked)\b",
    re.I,
)
_SENTENCE_START = re.compile(r"(?:^|(?<=[.!?:\u3002]\s)|(?<=\n))\s*(?=\S)")
_WORD = re.compile(r"[^\W_]+")
_BLOCK = re.compile(r"[^\n]*\S[^\n]*(?:\n[^\n]*\S[^\n]*)*")  # lines without a blank one between them


def injection_flags(text: str, hidden: Sequence[str] = ()) -> list[str]:
    """Names of the rules that fired, in alphabetical order; empty when the score is below the threshold.

    hidden: words that the document kept from its readers at this place, such as comments of its HTML.
    """
    return flagged(injection_scores(text, hidden))


def flagged(scores: dict[str, float]) -> list[str]:
    """The flags of these scores."""
    return sorted(scores) if sum(scores.values()) >= THRESHOLD else []


def injection_scores(text: str, hidden: Sequence[str] = ()) -> dict[str, float]:
    """What each rule adds to the score; of the lighter ones, in the passage where they weigh most."""
    scores = _hidden(text, hidden)
    seen = as_seen(text)
    plain = undisguised(seen)
    fired = _fired(plain)
    if plain != seen and fired - _fired(seen):
        scores["disguised_words"] = _DISGUISE_WEIGHT
    for rule in fired:
        scores[rule.flag] = round(scores.get(rule.flag, 0.0) + rule.weight, 2)
    return scores


def without_flagged(text: str) -> str:
    """The text with blanks in place of its flagged paragraphs and of the one after each, where a command can
    go on; all blank when it is flagged only as a whole. Every character keeps its place."""
    if not injection_flags(text):
        return text
    blocks = list(_BLOCK.finditer(text))
    flagged = [place for place, block in enumerate(blocks) if injection_flags(block[0])]
    removed = {place + step for place in flagged for step in (0, 1)} or set(range(len(blocks)))
    kept = list(text)
    for place, block in enumerate(blocks):
        if place in removed:
            kept[block.start() : block.end()] = re.sub(r"\S", " ", block[0])
    return "".join(kept)


def _fired(seen: str) -> set[Rule]:
    """The heavy rules that fire anywhere, and the lighter ones of the passage where they weigh most."""
    words = set(_WORD.findall(seen.lower()))
    found = {
        rule: places
        for rule in RULES
        if (not rule.triggers or not rule.triggers.isdisjoint(words))
        and (places := [match.start() for match in rule.pattern.finditer(seen)])
    }
    heavy = {rule for rule in found if rule.weight >= THRESHOLD}
    light = {rule: places for rule, places in found.items() if rule.weight < THRESHOLD}
    if len(light) < 2:
        return heavy | light.keys()
    passages = [
        {rule for rule, places in light.items() if any(start <= at < end for at in places)}
        for start, end in _passages(seen)
    ]
    return heavy | max(passages, key=lambda rules: sum(rule.weight for rule in rules), default=set())


def _passages(text: str) -> Iterator[tuple[int, int]]:
    for start in _SENTENCE_START.finditer(text):
        yield start.end(), start.end() + _PASSAGE_CHARS


def _hidden(text: str, hidden_words: Sequence[str]) -> dict[str, float]:
    """What a reader of the page would not see."""
    scores: dict[str, float] = {}
    if hidden := len(HIDDEN.findall(text)):
        # One is a slip of an editor; many between letters are a message or a disguise.
        scores["hidden_characters"] = 1.0 if hidden >= 5 else 0.4
    if has_tag_characters(text):
        scores["hidden_characters"] = scores.get("hidden_characters", 0.0) + 1.0
    if BIDI_OVERRIDE.search(text):
        scores["bidi_override"] = 1.0 if "\u202e" in text or "\u202d" in text else 0.4
    commands = any(_is_command(words) for words in (*hidden_words, *_COMMENT.findall(text)))
    if commands or _INVISIBLE_ELEMENT.search(text):
        scores["hidden_html"] = 1.0
    return scores


def _is_command(words: str) -> bool:
    """Whether hidden words speak to a model: a rule fires, or two of the words that commands are made of."""
    seen = as_seen(words)
    commands = {match[0].casefold() for match in _COMMANDS.finditer(seen)}
    heavy = {rule for rule in _fired(undisguised(seen)) if rule.weight >= THRESHOLD}
    return len(commands) >= 2 or bool(heavy) or sum(rule.weight for rule in _fired(seen)) >= THRESHOLD
