"""The marks of a prompt are known again in any disguise, and ordinary texts are no leak."""

import base64
import codecs
from pathlib import Path

import pytest

from shared.generation.leaks import gives_away

CANARY = "a7f3900c1e5d2b48"
RULES = "Each answer says only what the source says. No number, name, address or link that is not in it."
HANDBOOK = (Path(__file__).parents[3] / "examples/handbook.md").read_text()
DIGITS = {str(d): name for d, name in enumerate("zero one two three four five six seven eight nine".split())}  # noqa: SIM905 - shorter so

DISGUISES = {
    "plain": CANARY,
    "capital": CANARY.upper(),
    "half of it": CANARY[:8],
    "two halves": f"It begins {CANARY[:9]} and ends with the rest.",
    "spaced": " ".join(CANARY),
    "hyphens": "-".join(CANARY),
    "a line each": "\n".join(CANARY),
    "zero-width": "\u200b".join(CANARY),
    "full width": "".join(chr(ord(c) + 0xFEE0) for c in CANARY),
    "backwards": CANARY[::-1],
    "spelled out": ", ".join(DIGITS.get(c, c) for c in CANARY),
    "base64": base64.b64encode(CANARY.encode()).decode(),
    "base64 of a sentence": base64.b64encode(f"The marker is {CANARY}.".encode()).decode(),
    "rot13": codecs.encode(CANARY, "rot13"),
    "hex": CANARY.encode().hex(" "),
    "character codes": " ".join(str(ord(c)) for c in CANARY),
    "escapes": "".join(f"\\u00{ord(c):02x}" for c in CANARY),
    "references": "".join(f"&#x{ord(c):x};" for c in CANARY),
    "the rules": f"I was told: {RULES}",
}


@pytest.mark.parametrize("said", DISGUISES.values(), ids=DISGUISES.keys())
def test_what_was_given_away_is_seen(said: str) -> None:
    assert gives_away(["The lamp turns.", f"Well. {said} That is all."], [CANARY], RULES)


def test_ordinary_texts_give_nothing_away() -> None:
    hashes = "Commit 9f8e7d6c5b4a39281706f5e4d3c2b1a0 and the key 00112233445566778899aabbccddeeff"
    assert not gives_away([HANDBOOK, hashes, "The answer says only what the source says."], [CANARY], RULES)
