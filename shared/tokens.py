"""How many tokens a text has: exact with the o200k vocabulary, else estimated.

tiktoken would download a vocabulary that is missing, and wait for a network that may not be there. So
it is asked only when the file lies in TIKTOKEN_CACHE_DIR with the right content.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import tiktoken

from shared.log import logger

_ENCODING = "o200k_base"
_FILE_NAME = "fb374d419588a4632f3f557e76b4b70aebbca790"  # tiktoken's name for it: the SHA-1 of its address
_FILE_SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"

# Pieces that the vocabulary never joins; how many characters of each one token covers was measured.
_PIECE = re.compile(
    r"(?P<latin> ?[A-Za-z\u00C0-\u024F]+)|(?P<digits>\d{1,3})"
    r"|(?P<han>[\u3040-\u30FF\u3400-\u9FFF\uAC00-\uD7AF])|(?P<word> ?[^\W\d_]+)"
    r"|(?P<mark> ?(?:[^\w\s]|_){1,2}\n*)|(?P<space>\s+)"
)
_CHARS_PER_TOKEN = {"latin": 9.0, "word": 5.0}

_log = logger("tokens")


def count_tokens(text: str) -> int:
    """Tokens of the text; words like <|endoftext|> are counted as the plain text that they are."""
    vocabulary = _vocabulary(os.environ.get("TIKTOKEN_CACHE_DIR"))
    return estimate_tokens(text) if vocabulary is None else len(vocabulary.encode_ordinary(text))


def count_tokens_of(texts: Sequence[str]) -> list[int]:
    """Tokens of each text, counted on all cores where the vocabulary is there."""
    vocabulary = _vocabulary(os.environ.get("TIKTOKEN_CACHE_DIR"))
    if vocabulary is None:
        return [estimate_tokens(text) for text in texts]
    found = vocabulary.encode_ordinary_batch([*texts], num_threads=os.cpu_count() or 1)
    return [len(tokens) for tokens in found]


def counts_exactly() -> bool:
    """Whether `count_tokens` has the vocabulary."""
    return _vocabulary(os.environ.get("TIKTOKEN_CACHE_DIR")) is not None


def estimate_tokens(text: str) -> int:
    """Tokens without the vocabulary, from the shape of the text alone."""
    total = 0
    for piece in _PIECE.finditer(text):
        chars_per_token = _CHARS_PER_TOKEN.get(piece.lastgroup or "")
        length = piece.end() - piece.start()
        if piece.lastgroup == "space":
            # One blank belongs to the word after it; a run of blanks or line breaks is one token.
            total += piece.group() != " "
        else:
            total += 1 if chars_per_token is None else -int(-length // chars_per_token)
    return total


@lru_cache(maxsize=4)
def _vocabulary(cache_dir: str | None) -> tiktoken.Encoding | None:
    problem = _problem(cache_dir)
    if problem is None:
        return tiktoken.get_encoding(_ENCODING)
    # Cached by the decorator, so a process says it once.
    _log.warning("token counts are estimates", reason=problem, encoding=_ENCODING)
    return None


def _problem(cache_dir: str | None) -> str | None:
    """Why the vocabulary cannot be had without a network; None when it can."""
    if not cache_dir:
        return "TIKTOKEN_CACHE_DIR is not set"
    try:
        content = (Path(cache_dir) / _FILE_NAME).read_bytes()
    except OSError as error:
        return f"{_FILE_NAME} cannot be read from TIKTOKEN_CACHE_DIR: {error.strerror}"
    if hashlib.sha256(content).hexdigest() != _FILE_SHA256:
        return f"{_FILE_NAME} in TIKTOKEN_CACHE_DIR is damaged"
    return None
