"""How to ask about a phrase of a text in the text's own language."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from shared.documents.language import ENGLISH, language_of, languages
from shared.generation.extractive.english import is_manner, noun_phrases

_MAX_HEADING = 80


@dataclass(frozen=True)
class Language:
    """How one asks in a language."""

    code: str
    under: str  # asks about a phrase under a heading
    alone: str  # asks about a phrase where there is no heading
    common: frozenset[str]  # words that carry no meaning of their own
    parts: re.Pattern[str] | None  # what stands between phrases where no blanks are set

    def ask_about(self, phrase: str, heading: str | None) -> str:
        """A question about the phrase, in this language."""
        if heading is None:
            return self.alone.format(phrase=phrase)
        return self.under.format(phrase=phrase, heading=quotable(heading))

    def phrases(self, sentence: str) -> list[str]:
        """What a question about the sentence may name, in the order of reading."""
        if self.parts is not None:
            return [part for part in self.parts.split(sentence) if 2 <= len(part) <= 20 and part.isalnum()]
        if self.code == ENGLISH and (named := noun_phrases(sentence)):
            return named
        found = re.findall(r"[^\W\d_][\w'\u2019-]*", sentence)
        return [word for word in found if len(word) > 3 and not self._is_empty(word)]

    def _is_empty(self, word: str) -> bool:
        """Whether the word names nothing: a small word, or one that says how."""
        return word.lower() in self.common or (self.code == ENGLISH and is_manner(word.lower()))


def detect(text: str) -> Language:
    """The language that the text is in; English when nothing speaks for another one."""
    return _languages()[language_of(text)]


def distinctive_phrase(sentence: str, around: str, language: Language) -> str | None:
    """The part of the sentence that is rarest in the text around it; None when it has no word to name."""
    phrases = language.phrases(sentence)
    if not phrases:
        return None
    lower = around.lower()
    return min(phrases, key=lambda phrase: (lower.count(phrase.lower()), -len(phrase)))


def quotable(heading: str) -> str:
    """A heading that fits between quotation marks."""
    heading = re.sub('["\\u201c\\u201d\\u201e«»「」]', "", heading).strip()
    if len(heading) <= _MAX_HEADING:
        return heading
    return heading[:_MAX_HEADING].rsplit(" ", 1)[0]


@lru_cache(maxsize=1)
def _languages() -> dict[str, Language]:
    data = json.loads((Path(__file__).parent / "languages.json").read_text(encoding="utf-8"))
    return {
        code: Language(
            code=code,
            under=entry["under"],
            alone=entry["alone"],
            common=languages()[code].common,
            parts=re.compile(entry["parts"]) if "parts" in entry else None,
        )
        for code, entry in data.items()
    }
