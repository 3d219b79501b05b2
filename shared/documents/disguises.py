"""What hides words from readers or from rules: invisible characters, lookalike letters, spelled-out words."""

from __future__ import annotations

import re
import unicodedata

# Zero-width joiners have their place in emoji and in scripts such as Persian and Hindi.
HIDDEN = re.compile("[\u200b\u2060-\u2064\u180e\ufeff\u00ad]|(?<=[ -~])[\u200c\u200d](?=[ -~])")
BIDI_OVERRIDE = re.compile("[\u202a-\u202e\u2066-\u2069]")
_TAG_CHARACTERS = re.compile("[\U000e0020-\U000e007f]{2,}")
_FLAG_EMOJI = re.compile("\U0001f3f4[\U000e0020-\U000e007f]+")
# Letters of other scripts that look like Latin ones; folded in words that hold Latin letters as well.
_LOOKALIKES = str.maketrans(
    "\u0430\u0435\u0456\u0458\u043e\u0440\u0441\u0443\u0445\u0455\u0501\u04bb\u051b\u03bf\u03b1\u03b9\u03c1\u03bd"
    "\u0410\u0412\u0415\u0406\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425\u0391\u0392\u0395\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4",
    "aeijopcyxsdhqoaipvABEIKMHOPCTXABEIKMNOPT",
)
_MIXED_WORD = re.compile(r"\b(?=\w*[A-Za-z])(?=\w*[\u0370-\u052f])\w{2,40}\b")
# Short words may be made of lookalikes alone.
_SMALL_WORD = re.compile(r"\b[\u0370-\u052f]{1,3}\b")
_SPACED = re.compile(r"(?<!\w)(?:[^\W_][ .\-*_]){2,40}[^\W_](?!\w)")  # "I g n o r e", "i-g-n-o-r-e"
_LEET_WORD = re.compile(r"\b(?=\w*[A-Za-z]{2})(?=\w*[013457])[A-Za-z013457]{4,40}\b")
_LEET = str.maketrans("013457", "oieast")


def has_tag_characters(text: str) -> bool:
    """Whether it holds a message in characters that are never shown, outside of the emoji of a flag."""
    return _TAG_CHARACTERS.search(_FLAG_EMOJI.sub("", text)) is not None


def as_seen(text: str) -> str:
    """The text as a model would read it: one form for each character, nothing between the letters."""
    # Twice: a joiner may stand beside another hidden character, which kept it from standing beside a letter.
    return HIDDEN.sub("", HIDDEN.sub("", unicodedata.normalize("NFKC", text)))


def undisguised(seen: str) -> str:
    """The same with the letters of other scripts made Latin, digits that stand for letters made letters, and
    spelled-out words made words."""
    if _MIXED_WORD.search(seen):
        seen = _MIXED_WORD.sub(lambda word: word[0].translate(_LOOKALIKES), seen)
        seen = _SMALL_WORD.sub(lambda word: word[0].translate(_LOOKALIKES), seen)
    seen = _LEET_WORD.sub(lambda word: word[0].translate(_LEET), seen)
    return _SPACED.sub(lambda letters: re.sub(r"[ .\-*_]", "", letters[0]), seen)
