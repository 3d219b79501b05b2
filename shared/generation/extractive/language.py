"""Which language a text is in, and how to ask about a phrase of it in that language."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from shared.documents.quality import words
from shared.generation.extractive.english import is_manner, noun_phrases

_MAX_HEADING = 80
_MIN_SCRIPT_SHARE = 0.2


@dataclass(frozen=True)
class Language:
    """How one language is told and asked in. `words` or `script` says how it is recognised."""

    code: str
    under: str  # asks about a phrase under a heading
    alone: str  # asks about a phrase where there is no heading
    common: frozenset[str]  # words that carry no meaning of their own
    script: re.Pattern[str] | None
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


ENGLISH = "en"


def detect(text: str) -> Language:
    """The language of most of the text's letters or commonest words; English when nothing speaks for one."""
    letters = sum(char.isalpha() for char in text) or 1
    for language in _languages().values():
        # Japanese stands before Chinese: it is the one that also has kana.
        if language.script and len(language.script.findall(text)) / letters >= _MIN_SCRIPT_SHARE:
            return language
    latin = {code: language for code, language in _languages().items() if language.script is None}
    counts = Counter(words(text))
    hits = {code: _hits(counts, language) for code, language in latin.items()}
    best = max(hits, key=lambda code: hits[code])
    return latin[best] if hits[best] > hits[ENGLISH] else latin[ENGLISH]


def _hits(counts: Counter[str], language: Language) -> int:
    """How often words of this language alone occur; 0 for fewer than three different ones."""
    own = language.common - (_languages()[ENGLISH].common if language.code != ENGLISH else frozenset())
    present = [word for word in own if counts[word] and len(word) > 1]
    return sum(counts[word] for word in present) if len(present) >= 3 else 0


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
            common=frozenset(entry.get("words", "").split()),
            script=re.compile(entry["script"]) if "script" in entry else None,
            parts=re.compile(entry["parts"]) if "parts" in entry else None,
        )
        for code, entry in data.items()
    }
