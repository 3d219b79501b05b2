"""What no pair may carry, whatever a document or a model says: checked word by word against the source.

A model that obeys a document instead of us can only answer in text. So what is kept of an answer holds
nothing that acts (addresses, markup, keys, forged turns, words to other models) unless the source holds it
already, and nothing that is not seen.
"""

from __future__ import annotations

import re
import unicodedata

from shared.datasets.duplicates import normal
from shared.documents.disguises import HIDDEN
from shared.documents.injection import injection_flags
from shared.generation.source import Draft, SourceChunk

_MAX_QUESTION_CHARS = 4_000
_MAX_ANSWER_CHARS = 16_000
# What has no place in a message: controls but tab and line break, marks and letters that are not seen, half
# characters, and selectors that can spell a hidden text behind an emoji.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u2028\u2029\u202a-\u202e"
    "\u2060-\u206f\u2800\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_MARK_RUN = re.compile("[\u200c-\u200f\u061c\ufe0f]{3,}")  # one has its place, a row of them is a message
_TOP_LEVEL = "com|net|org|io|dev|app|info|biz|xyz|top|site|online|ru|cn|example|test"
_ADDRESS = re.compile(
    r"(?:https?|hxxps?|ftp|file|wss?)://[^\s)>\]\"'`]+|www\.[^\s)>\]\"'`]+"
    r"|\b(?:mailto|javascript|vbscript|data|tel):[^\s)>\]\"'`]+|[\w.+-]+@[\w-]+\.[\w.-]+"
    rf"|\b[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:{_TOP_LEVEL})\b[^\s)>\]\"'`]*|\b\d{{1,3}}(?:\.\d{{1,3}}){{3}}\b"
    # evil[.]example, boss at evil dot example
    r"|\b[\w-]+(?: ?[\[(](?:\.|dot)[\])] ?[\w-]+)+|\b\w+ (?:\(at\)|\[at\]|at) \w+ dot \w+",
    re.I,
)
_SECRET = re.compile(
    r"\b(?:sk-|hf_|AIza|gh[pousr]_|xox[abprs]-|AKIA|eyJ|glpat-|npm_|pypi-)[\w-]{8,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY|\b(?=[A-Za-z+/_-]*\d)(?=[\d+/_-]*[A-Za-z])[A-Za-z\d+/_-]{32,}"
)
_MARKUP = re.compile(
    r"</?(?:script|iframe|img|svg|object|embed|link|style|meta|form|input|button|base|video|audio|body|html"
    r"|template|math|source|a(?=\s+href))\b[^>]{0,500}>?|<!--|\bon[a-z]{3,20}\s*=\s*[\"'][^\"']{0,200}"
    r"|!\[[^\]]{0,200}\]\([^)]{0,500}"
    r"|\{\{.{0,200}?\}\}|</?think\b",
    re.I,
)
# Where a chat is stored as text, these begin somebody else's turn.
_TURN = re.compile(
    r"<\|[\w ]{1,30}\|>|\[/?INST\]|<</?SYS>>|^\W{0,3}(?:system|user|human|assistant|developer)\s*:"
    r"|^#{2,}\s*(?:instruction|input|response|system|user|assistant)\b|\"role\"\s*:",
    re.I | re.M,
)


def sanitised(draft: Draft) -> Draft | None:
    """The draft without unseen characters; None when a message is empty or over its limit then."""
    turns = tuple((clean_text(user), clean_text(assistant)) for user, assistant in draft.turns)
    reasoning = tuple(map(clean_text, draft.reasoning))
    for user, assistant in turns:
        if not user or not assistant or normal(user) == normal(assistant):
            return None
        if len(user) > _MAX_QUESTION_CHARS or len(assistant) > _MAX_ANSWER_CHARS:
            return None
    if any(len(thought) > _MAX_ANSWER_CHARS for thought in reasoning):
        return None
    return Draft(turns, draft.char_start, draft.char_end, reasoning)


def is_suspicious(draft: Draft, chunk: SourceChunk) -> bool:
    """Whether it carries what its source does not: an address, a key, markup, a forged turn, or words to a
    language model, which are suspicious in any case."""
    said = "\n".join((*(message for turn in draft.turns for message in turn), *draft.reasoning))
    source = chunk.grounds.casefold()
    for pattern in (_ADDRESS, _SECRET, _MARKUP, _TURN):
        if any(
            match[0].strip().rstrip(".,;:!?").casefold() not in source for match in pattern.finditer(said)
        ):
            return True
    return bool(injection_flags(said))


def clean_text(message: str) -> str:
    """Without what has no place in a message, and without blanks around it."""
    composed = unicodedata.normalize("NFC", message.replace("\r\n", "\n"))
    return HIDDEN.sub("", _MARK_RUN.sub("", _UNSEEN.sub("", composed))).strip()
