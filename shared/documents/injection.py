"""Signs that a text speaks to a language model rather than to its reader.

Advisory: small scored rules that tell a person where to look and keep a chunk out of generation. What
holds is elsewhere: untrusted text is fenced, answers are checked against their source, no tool is near.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

THRESHOLD = 1.0  # flags are raised from this score on; a rule below it needs a second one beside it


@dataclass(frozen=True)
class _Rule:
    flag: str
    weight: float
    pattern: re.Pattern[str]


def _words(pattern: str) -> re.Pattern[str]:
    """Spaces in the pattern stand for what may part two words. Words and partings share no character, so
    a match takes linear time."""
    return re.compile(pattern.replace(r"\w+", r"[^\W_]+").replace(" ", r"[\W_]{1,10}"), re.I)


_RULES = (
    _Rule(
        "instruction_override",
        1.0,
        _words(
            r"\b(ignore|disregard|forget|override|bypass) ((all|any|every|everything|the|your|these|those|of|"
            r"my|our) ){0,3}(previous|prior|above|earlier|preceding|former|existing|system)( \w+)? "
            r"(instructions?|prompts?|rules?|directions?|guidelines?|context|messages?|commands?)\b"
        ),
    ),
    _Rule(
        "instruction_override",
        1.0,
        _words(
            r"\b(ignoriere|vergiss|missachte) (\w+ ){0,2}(vorherigen|bisherigen|obigen|früheren) "
            r"(anweisungen|befehle|regeln)"
            r"|\b(ignora|olvida) (\w+ ){0,2}(instrucciones|reglas|istruzioni|instruções)"
            r"|\b(ignorez|oubliez) (\w+ ){0,2}(instructions|consignes|règles)"
        ),
    ),
    _Rule(
        "instruction_override",
        1.0,
        re.compile(r"(忽略|无视|忘记).{0,6}(之前|以上|先前|上述).{0,6}(指令|提示|规则)"),
    ),
    _Rule(
        "role_marker",
        1.0,
        re.compile(
            r"<\|(im_start|im_end|system|user|assistant|endoftext|eot_id|start_header_id)\|>"
            r"|\[/?INST\]|<</?SYS>>|</?(system|assistant)_?(prompt|message)?>|^#+\s*(system|assistant)\s*:",
            re.I | re.M,
        ),
    ),
    _Rule(
        "role_marker",
        0.5,
        re.compile(r"^\W{0,3}(system|assistant|developer)( (message|prompt))?\s*:", re.I | re.M),
    ),
    _Rule(
        "prompt_leak",
        1.0,
        _words(
            r"\b(reveal|print|repeat|show|output|leak|tell me|display) (\w+ ){0,3}"
            r"(system|hidden|initial|original|secret) (prompt|instructions?|message)s?\b"
        ),
    ),
    _Rule(
        "persona_change",
        0.6,
        _words(r"\b(you are now|from now on,? you|pretend (to be|that you)|act as (if|an?))\b"),
    ),
    _Rule(
        "addresses_model",
        0.6,
        _words(
            r"\b(as|dear|attention|note to|instructions? (for|to)|if you are) (an? |the |any |all )?"
            r"(ai|a\.i\.|llm|chatbot|language model|ai model|assistant|gpt)s?\b"
        ),
    ),
    _Rule(
        "output_control",
        0.6,
        _words(
            r"\b(respond|reply|answer|output|say)( back)?( only| exactly| nothing but| always)\b"
            r"|\bdo not (mention|reveal|tell|disclose)( \w+){0,3} (user|anyone|human|instruction|prompt)s?\b"
        ),
    ),
    _Rule("jailbreak", 1.0, _words(r"\b(jailbreak|do anything now|developer mode (enabled|on)|DAN mode)\b")),
)

# Zero-width joiners have their place in emoji and in scripts such as Persian and Hindi.
_HIDDEN = re.compile("[\u200b\u2060-\u2064\u180e\ufeff\u00ad]|(?<=[ -~])[\u200c\u200d](?=[ -~])")
_BIDI_OVERRIDE = re.compile("[\u202a-\u202e\u2066-\u2069]")
_TAG_CHARACTERS = re.compile("[\U000e0020-\U000e007f]{2,}")
_FLAG_EMOJI = re.compile("\U0001f3f4[\U000e0020-\U000e007f]+")
_COMMENT = re.compile(r"<!--(.*?)(?:-->|\Z)", re.S)
_INVISIBLE_ELEMENT = re.compile(
    r"<[a-z][^<>]{0,500}(display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0|opacity\s*:\s*0\b"
    r"|color\s*:\s*(#fff(fff)?|white|transparent)\b|\shidden\b)",
    re.I,
)
_COMMANDS = re.compile(
    r"\b(ignore (the|all|any|every|previous|prior|above)|instructions?|prompt|assistant|language model"
    r"|chatbot|AI|LLM|you (must|are)|respond)\b",
    re.I,
)


def injection_flags(text: str, hidden: Sequence[str] = ()) -> list[str]:
    """Names of the rules that fired, in alphabetical order; empty when the score is below the threshold.

    hidden: words that the document kept from its readers at this place, such as comments of its HTML.
    """
    score, flags = _hidden(text)
    if any(_COMMANDS.search(_as_seen(words)) for words in hidden):
        score += 1.0
        flags.add("hidden_html")
    seen = _as_seen(text)
    for rule in _RULES:
        if rule.pattern.search(seen):
            score += rule.weight
            flags.add(rule.flag)
    return sorted(flags) if score >= THRESHOLD else []


def _hidden(text: str) -> tuple[float, set[str]]:
    """What a reader of the page would not see."""
    score, flags = 0.0, set()
    hidden = len(_HIDDEN.findall(text))
    if hidden:
        # One is a slip of an editor; many between letters are a message or a disguise.
        score += 1.0 if hidden >= 5 else 0.4
        flags.add("hidden_characters")
    if _TAG_CHARACTERS.search(_FLAG_EMOJI.sub("", text)):
        score += 1.0
        flags.add("hidden_characters")
    if _BIDI_OVERRIDE.search(text):
        score += 1.0 if "\u202e" in text or "\u202d" in text else 0.4
        flags.add("bidi_override")
    if any(_COMMANDS.search(comment) for comment in _COMMENT.findall(text)) or _INVISIBLE_ELEMENT.search(
        text
    ):
        score += 1.0
        flags.add("hidden_html")
    return score, flags


def _as_seen(text: str) -> str:
    """The text as a model would read it: one form for each character, nothing between the letters."""
    return _HIDDEN.sub("", unicodedata.normalize("NFKC", text))
