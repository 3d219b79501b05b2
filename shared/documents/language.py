"""Which language a text is in: told by its script, or by its commonest words."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from shared.documents.quality import words

ENGLISH = "en"
_MIN_SCRIPT_SHARE = 0.2


class Signs(NamedTuple):
    """How one language is known: by the letters of a script that is its own, else by words of no meaning."""

    common: frozenset[str]
    script: re.Pattern[str] | None


def language_of(text: str) -> str:
    """The ISO 639-1 code of most of the letters or commonest words; English when nothing speaks for one."""
    letters = 0 if text.isascii() else sum(map(str.isalpha, text))
    for code, signs in languages().items():
        # Japanese stands before Chinese: it is the one that also has kana.
        if letters and signs.script and len(signs.script.findall(text)) / letters >= _MIN_SCRIPT_SHARE:
            return code
    counts = Counter(words(text))
    hits = {code: _hits(counts, code) for code, signs in languages().items() if signs.script is None}
    best = max(hits, key=lambda code: hits[code])
    return best if hits[best] > hits[ENGLISH] else ENGLISH


@lru_cache(maxsize=1)
def languages() -> dict[str, Signs]:
    """The languages that are told apart, by code."""
    data = json.loads((Path(__file__).parent / "languages.json").read_text(encoding="utf-8"))
    return {
        code: Signs(
            common=frozenset(entry.get("words", "").split()),
            script=re.compile(entry["script"]) if "script" in entry else None,
        )
        for code, entry in data.items()
    }


def _hits(counts: Counter[str], code: str) -> int:
    """How often words of this language alone occur; 0 for fewer than three different ones."""
    present = counts.keys() & _own_words(code)
    return sum(counts[word] for word in present) if len(present) >= 3 else 0


@lru_cache(maxsize=64)
def _own_words(code: str) -> frozenset[str]:
    others = languages()[ENGLISH].common if code != ENGLISH else frozenset()
    return frozenset(word for word in languages()[code].common - others if len(word) > 1)
