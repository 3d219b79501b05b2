"""A statement laid out for asking: what it is about, what it says, and how to put a question to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from shared.generation.extractive.english import BREAKS, PREPOSITIONS, Clause, is_manner, is_number

_MAX_TAIL_WORDS = 7


@dataclass(frozen=True)
class Statement:
    """What the patterns look at."""

    clause: Clause
    subject: str  # as it stands inside a question

    @cached_property
    def core(self) -> str:
        """What follows the verb, up to the first break of the clause."""
        words = self.clause.rest
        end = next((i for i in range(len(words)) if _breaks(words, i)), len(words))
        return " ".join(words[:end])

    @cached_property
    def words(self) -> list[str]:
        """The words of the core."""
        return self.core.split()

    @property
    def after_core(self) -> str:
        """What follows the break, with the word that makes it."""
        return " ".join(self.clause.rest[len(self.words) :])

    @property
    def verb(self) -> str:
        """The base of the full verb; empty for "is"."""
        return " ".join(self.clause.verb)

    def before(self, index: int) -> str:
        """The core up to this index: what stays between the verb and the thing asked for."""
        return self.core[:index].strip()

    def ask(self, opening: str, *after_verb: str) -> str:
        """ "How many steps" -> "How many steps does the stair have?"."""
        clause = self.clause
        words = (opening, clause.auxiliary, self.subject, clause.negation, *clause.verb, *after_verb)
        return " ".join(word for word in words if word) + "?"

    def with_verb(self, verb: str) -> Statement:
        """The same subject doing something else."""
        return replace(self, clause=replace(self.clause, verb=(verb,), rest=()))


def tail(text: str) -> str:
    """What follows the thing asked for, if it makes the question more exact: short, and without numbers."""
    words = text.split()
    if not words or len(words) > _MAX_TAIL_WORDS or any(map(is_number, words)):
        return ""
    return text.strip() if words[0] in PREPOSITIONS else ""


def split_noun_phrase(text: str) -> tuple[str, str]:
    """A noun with its "of ...", and what follows it; two empty strings when it is none."""
    words = text.split()
    end = next((i for i, word in enumerate(words) if _ends_noun(word)), len(words))
    if words[end : end + 1] == ["of"]:
        stop = next((i for i in range(end + 1, len(words)) if words[i] in PREPOSITIONS), len(words))
        end = stop if stop - end <= 4 else end
    return (" ".join(words[:end]), " ".join(words[end:])) if 0 < end <= 6 else ("", "")


def starts_noun_phrase(first: str) -> bool:
    """Whether a word begins the name of a thing rather than a quality of it."""
    return first in ("a", "an", "the", "one", "its", "their") or is_number(first) or not first[:1].islower()


def _ends_noun(word: str) -> bool:
    return word in PREPOSITIONS or is_manner(word) or is_number(word)


def _breaks(words: tuple[str, ...], i: int) -> bool:
    """Whether the clause ends before this word; "between 1 April and 31 October" goes on."""
    if words[i].lower() not in BREAKS:
        return False
    joins = "between" in words[max(0, i - 5) : i] or words[i + 1 : i + 3] == ("a", "half")
    return not (words[i] == "and" and joins)
