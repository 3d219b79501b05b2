"""Names and quotations of an answer that its source does not have."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from shared.generation.extractive.language import Language

_WORD = re.compile(r"[^\W\d_](?:[\w'\u2019.&-]*\w)?")
_SENTENCE_START = re.compile(
    r"(?:^|[.!?:;\u2026][\"'\u201d\u2019)*_]*\s|\n)[\s>*_#\"'(\u201c\u2018\u00ab\u201e\d.)-]*$"
)
# A quotation, or what is set as code.
_QUOTED = re.compile(
    '"([^"\\n]{3,300})"|\u201c([^\u201d\\n]{3,300})\u201d|\u00ab([^\u00bb\\n]{3,300})\u00bb'
    "|\u201e([^\u201c\u201d\\n]{3,300})[\u201c\u201d]|`([^`\\n]{2,300})`"
)
_LEFT_OUT = re.compile(r"\s*(?:\[?\.\.\.\]?|\[?\u2026\]?)\s*")
_PLAIN_MARKS = str.maketrans("\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb\u2013\u2014", '\'\'"""""--')
_START_CHARS = 60  # how much before a word is looked at


def known_names(text: str) -> frozenset[str]:
    """Every word of the text, as `unknown_names` compares it."""
    return frozenset(form for match in _WORD.finditer(text) for form in _forms(match[0]))


def unknown_names(answer: str, source: str, known: frozenset[str], language: Language) -> list[str]:
    """Capital words of the answer that are in no form known, but for those in quotations. The first word of a
    sentence is one only where the source has another first name before the name that follows it."""
    answer = _QUOTED.sub(lambda quote: " " * len(quote[0]), answer)
    words = list(_WORD.finditer(answer))
    unknown = []
    for place, match in enumerate(words):
        word = match[0]
        if not word[0].isupper() or word in ("I", "I'm", "OK"):
            continue
        if _SENTENCE_START.search(answer, max(0, match.start() - _START_CHARS), match.start()):
            follows = words[place + 1] if place + 1 < len(words) else None
            if (
                follows
                and answer[match.end() : follows.start()] == " "
                and _renames(word, follows[0], source, language)
            ):
                unknown.append(word)
        elif not _is_known(word, known):
            unknown.append(word)
    return unknown


def unknown_quotes(answer: str, source: str) -> list[str]:
    """Quotations and code that do not stand in the source, whatever their case, blanks and markup."""
    text = _plain(source)
    return [
        quote
        for match in _QUOTED.finditer(answer)
        if (quote := next(filter(None, match.groups()))) and not all(part in text for part in _parts(quote))
    ]


def _renames(first: str, last: str, source: str, language: Language) -> bool:
    """Whether the source has the second name, and another capital word before it each time."""
    if (
        not last[0].isupper()
        or first.lower() in language.common
        or re.search(rf"\b{re.escape(first)}\b", source, re.I)
    ):
        return False
    before = re.findall(rf"([^\W\d_][\w'\u2019-]*) {re.escape(last)}\b", source)
    return bool(before) and all(word[0].isupper() and word.lower() not in language.common for word in before)


def _is_known(word: str, known: frozenset[str]) -> bool:
    if any(form in known for form in _forms(word)):
        return True
    parts = [part for part in re.split(r"[-.&]", word) if part]
    return len(parts) > 1 and all(_is_known(part, known) for part in parts)


def _forms(word: str) -> Iterator[str]:
    """The word without accents and endings; of a compound its parts too."""
    plain = unicodedata.normalize("NFKD", word.casefold()).replace("\u2019", "'")
    plain = "".join(char for char in plain if not unicodedata.combining(char)).removesuffix("'s").rstrip("'")
    yield plain
    yield plain.removesuffix("s")
    if "-" in plain:
        yield from (part for part in plain.split("-") if part)


def _parts(quote: str) -> list[str]:
    return [plain for part in _LEFT_OUT.split(quote) if (plain := _plain(part).strip(" .,;:!?"))]


def _plain(text: str) -> str:
    marked = unicodedata.normalize("NFKC", text).translate(_PLAIN_MARKS)
    return " ".join(re.sub(r"[*_`]", "", marked).casefold().split())
