"""How good a source a piece of text is for training pairs: 0 to 1.

score = 0.30 length + 0.25 vocabulary + 0.20 structure + 0.25 coherence

length      tokens / 100, at most 1
vocabulary  different words / square root of all words, / 6, at most 1: a text that repeats itself scores low
structure   kinds of elements among heading, paragraph, list and table: 0.6 for one, 0.3 for each further one,
            at most 1; 0 for a text of code or markup alone
coherence   share of the characters that stand in whole sentences: 4 to 60 words that end with a mark
            (a character of a script without blanks counts as a word)
"""

from __future__ import annotations

import math
import re

from shared.documents.markdown import Block, blocks
from shared.documents.sentences import sentences

# One Chinese or Japanese character carries about as much as a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+(?:['\u2019][^\W\d_]+)?")
_ENDS = tuple(".!?:\u2026\u3002\uff01\uff1f\u061f\u06d4\u0964")
_CLOSING = "\"'\u201d\u2019\u00bb)]*_`\u300d\u300f\uff09\u3011"
_PROSE = ("paragraph", "item")


WEIGHTS = {"length": 0.30, "vocabulary": 0.25, "structure": 0.20, "coherence": 0.25}


def quality_factors(text: str, token_count: int) -> dict[str, float]:
    """The four factors of a piece by their names, each 0 to 1."""
    found = blocks(text)
    factors = {
        "length": min(1.0, token_count / 100),
        "vocabulary": _vocabulary(text),
        "structure": _structure(found),
        "coherence": _coherence(text, found),
    }
    return {name: round(factor, 4) for name, factor in factors.items()}


def quality_score(factors: dict[str, float]) -> float:
    """The score of a piece, by the formula above."""
    return round(sum(WEIGHTS[name] * factor for name, factor in factors.items()), 4)


def words(text: str) -> list[str]:
    """The words in lower case."""
    return [word.lower() for word in _WORD.findall(text)]


def _vocabulary(text: str) -> float:
    all_words = words(text)
    if not all_words:
        return 0.0
    return min(1.0, len(set(all_words)) / math.sqrt(len(all_words)) / 6)


def _structure(found: list[Block]) -> float:
    kinds = {block.kind for block in found} & {"heading", "paragraph", "item", "table"}
    return min(1.0, 0.3 + 0.3 * len(kinds)) if kinds else 0.0


def _coherence(text: str, found: list[Block]) -> float:
    total = sum(not char.isspace() for char in text)
    whole = 0
    for block in found:
        if block.kind in _PROSE:
            for start, end in sentences(text, block.start, block.end):
                sentence = text[start:end]
                if _is_whole(sentence):
                    whole += sum(not char.isspace() for char in sentence)
    return min(1.0, whole / total) if total else 0.0


def _is_whole(sentence: str) -> bool:
    return sentence.rstrip(_CLOSING).endswith(_ENDS) and 4 <= len(_WORD.findall(sentence)) <= 60
