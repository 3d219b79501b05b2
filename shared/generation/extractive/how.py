"""Questions for quantities, times and reasons. Each gives None where the statement does not answer it."""

from __future__ import annotations

import re

from shared.generation.extractive.asking import Statement, split_noun_phrase, starts_noun_phrase, tail
from shared.generation.extractive.english import is_plural
from shared.generation.extractive.measures import CLOCK, COUNT, DURATION, HOW_OFTEN, MONEY, SIZE, SPAN, WHEN

_OPENINGS = {"until": "Until when", "till": "Until when", "since": "Since when"}
_REASONS = ("because ", "so that ", "in order to ")
_OCCASIONS = ("when ", "if ", "once ", "after ", "as soon as ")


def how_much(said: Statement) -> str | None:
    money = MONEY.match(said.core)
    if money is None or said.clause.negation:
        return None
    return said.ask("How much", tail(said.core[money.end() :]))


def how_large(said: Statement) -> str | None:
    size = SIZE.match(said.core)
    if size is None or not said.clause.is_be or said.clause.negation:
        return None
    adjective = "far away" if size["adjective"] == "away" else size["adjective"]
    return said.ask(f"How {adjective}", tail(said.core[size.end() :]))


def how_long(said: Statement) -> str | None:
    if said.clause.negation:
        return None
    if said.verb in ("take", "last") and (span := SPAN.match(said.core)):
        return said.ask("How long", tail(said.core[span.end() :]))
    duration = DURATION.search(said.core)
    if duration is None or " to " in said.before(duration.start()):
        return None
    return said.ask("How long", said.before(duration.start()), tail(said.core[duration.end() :]))


def how_often(said: Statement) -> str | None:
    often = HOW_OFTEN.search(said.core)
    if often is None or CLOCK.search(said.core):
        return None
    before = said.before(often.start())
    return None if " by " in before or before.endswith(" of") else said.ask("How often", before)


def how_many(said: Statement) -> str | None:
    count = COUNT.match(said.core)
    if count is None or said.clause.is_be or said.clause.negation:
        return None
    when = WHEN.match(said.core)
    if when and when["offset"]:
        return None  # "rings 45 minutes before ..." does not ring minutes
    noun, rest = split_noun_phrase(count["noun"])
    if not noun or not is_plural(noun.split()):
        return None
    return said.ask(f"How many {noun}", tail(rest), count["particle"].strip())


def when(said: Statement) -> str | None:
    time = WHEN.search(said.core)
    if time is None:
        return None
    before = said.before(time.start())
    # "is the password in summer": the time is not what the statement tells.
    says_what = bool(before) and not said.verb and starts_noun_phrase(said.words[0])
    if says_what or len(before.split()) > 9 or re.search(r"\b(by|until)\b", before):
        return None
    return said.ask(_OPENINGS.get(time["how"] or "", "When"), before)


def when_it_happens(said: Statement) -> str | None:
    until = re.search(r"\buntil\b", said.core)
    if until:
        return said.ask("Until when", said.before(until.start()))
    return _before_conjunction(said, "When", _OCCASIONS)


def why(said: Statement) -> str | None:
    return _before_conjunction(said, "Why", _REASONS)


def _before_conjunction(said: Statement, opening: str, conjunctions: tuple[str, ...]) -> str | None:
    """A question that the clause answers which one of the conjunctions begins."""
    says_nothing = not said.words and said.clause.is_be
    if says_nothing or said.clause.negation or len(said.words) > 8:
        return None
    return said.ask(opening, said.core) if said.after_core.startswith(conjunctions) else None
