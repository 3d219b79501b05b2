"""Numbers in words: "seven and a half", "the first Friday", "twice", "noon"."""

from __future__ import annotations

import re
from decimal import Decimal

from shared.generation.grounding.number import Number
from shared.generation.grounding.words import NumberWords

_WORD = r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*"
_NEXT = re.compile(rf"[ \u00a0](?P<and>and )?(?P<word>{_WORD})")
_HALF = re.compile(r" and a half\b", re.I)
_WORD_BEFORE = re.compile(r"([^\W\d_]+)\W*$")
_WORD_AFTER = re.compile(r"[ \u00a0-]([^\W\d_]+)")
_LARGEST = 10**15  # beyond it words are noise
_ADVERBS = {"once": 1, "twice": 2, "thrice": 3}
_AFTER_ONCE = ("a", "an", "every", "each", "per", "in", "daily", "weekly", "monthly", "yearly")
_CLOCK = {"noon": 720, "midday": 720, "midnight": 0}  # minutes
_BEFORE_PRONOUN = ("no", "any", "every", "each", "the", "this", "that", "which", "some", "as")
# "one of them", "one may", "one needs"
_AFTER_PRONOUN = re.compile(
    "of|another|can|could|may|must|should|might|would|will|who|which|that|is|was|has|by|more|needs|does|gets|wants"
)


def spelled_number(text: str, match: re.Match[str], words: NumberWords) -> Number | None:
    """The number that begins with the matched word; None when it is no numeral. A unit is not looked for."""
    said, start, end = match[0].lower(), match.start(), match.end()
    if said in _ADVERBS:
        is_claim = said != "once" or word_after(text, end) in _AFTER_ONCE
        return _amount(text, start, end, Decimal(_ADVERBS[said]), is_claim=is_claim)
    if said in _CLOCK:
        minutes = Decimal(_CLOCK[said])
        return Number(match[0], start, end, "time", minutes)
    if (place := words.ordinals.get(said)) is not None:
        # "First, open the door." and "First open the door." count nothing.
        is_claim = text[end : end + 1] in (" ", "\u00a0", "-") and match[0] != "First"
        return Number(match[0], start, end, "ordinal", Decimal(place), is_claim=is_claim)
    found = _value(text, match, words)
    if found is None:
        return None
    value, end = found
    is_claim = text[start:end].lower() != "one" or not _is_pronoun(text, start, end)
    return _amount(text, start, end, value, is_claim=is_claim)


def word_after(text: str, end: int) -> str:
    """The word right after, in lower case; empty when a mark comes first."""
    after = _WORD_AFTER.match(text, end)
    return after[1].lower() if after else ""


def _amount(text: str, start: int, end: int, value: Decimal, *, is_claim: bool) -> Number:
    return Number(text[start:end], start, end, "amount", value, is_claim=is_claim)


def _value(text: str, match: re.Match[str], words: NumberWords) -> tuple[Decimal, int] | None:
    """What the words that begin here amount to, and where they end."""
    below_thousand = _below_hundred(match[0].lower(), words)
    if below_thousand is None:
        return None
    total, end = Decimal(0), match.end()
    while (follow := _NEXT.match(text, end)) and max(total, below_thousand) < _LARGEST:
        word = follow["word"].lower()
        scale, small = words.scales.get(word), _below_hundred(word, words)
        if scale is not None and not follow["and"] and scale < 1000:
            below_thousand *= scale
        elif scale is not None and not follow["and"]:
            total, below_thousand = total + below_thousand * scale, Decimal(0)
        elif small is not None and _has_room(below_thousand, small, total, bool(follow["and"])):
            below_thousand += small
        else:
            break
        end = follow.end()
    if half := _HALF.match(text, end):
        return total + below_thousand + Decimal("0.5"), half.end()
    return total + below_thousand, end


def _has_room(so_far: Decimal, small: Decimal, total: Decimal, has_and: bool) -> bool:
    """Whether a numeral may follow: one to nine after tens, anything after hundreds or thousands."""
    if so_far == 0:
        return total > 0
    is_after_tens = so_far % 100 in range(20, 100, 10) and small < 10 and not has_and
    return is_after_tens or (so_far >= 100 and so_far % 100 == 0)


def _below_hundred(word: str, words: NumberWords) -> Decimal | None:
    """The value of "six", "sixty" or "sixty-six"; None for another word."""
    if word in words.units:
        return Decimal(words.units[word])
    tens, _, rest = word.partition("-")
    if tens not in words.tens or (rest and words.units.get(rest, 10) > 9):
        return None
    return Decimal(words.tens[tens] + (words.units[rest] if rest else 0))


def _is_pronoun(text: str, start: int, end: int) -> bool:
    """ "no one", "one of them", "one may"."""
    before = _WORD_BEFORE.search(text[max(0, start - 20) : start])
    after = word_after(text, end)
    return (
        not after
        or _AFTER_PRONOUN.fullmatch(after) is not None
        or (before is not None and before[1].lower() in _BEFORE_PRONOUN)
    )
