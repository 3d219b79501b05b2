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


_REFUSE = (
    "(ignore|disregard|forget|override|bypass|set aside|(do not|don't|stop) (follow|following|obey|obeying)"
    "|pay no attention to)"
)
_ORDERS = "(instructions?|prompts?|rules?|directions?|guidelines?|context|messages?|commands?)"

_RULES = (
    _Rule(
        "instruction_override",
        1.0,
        _words(
            rf"\b{_REFUSE} ((all|any|every|everything|the|your|these|those|of|"
            r"my|our) ){0,3}(previous|prior|above|earlier|preceding|former|existing|system)( \w+)? "
            rf"{_ORDERS}\b"
            rf"|\b{_REFUSE} ((all|any|the|your|these|those|of) ){{0,3}}{_ORDERS} "
            r"(above|before|you were given|so far)\b"
            rf"|\b{_REFUSE} (everything|anything|all|what) (that )?you (were|have been) (told|given|taught)\b"
        ),
    ),
    _Rule(
        "instruction_override",
        1.0,
        _words(
            r"\b(ignoriere|vergiss|missachte) (\w+ ){0,2}(vorherigen|bisherigen|obigen|früheren) "
            r"(anweisungen|befehle|regeln)"
            r"|\b(ignora|ignore|olvida|esqueça) (\w+ ){0,2}(instrucciones|reglas|istruzioni|instruções)"
            r"|\b(negeer|vergeet) (\w+ ){0,2}(vorige|eerdere|bovenstaande) (instructies|regels)"
            r"|\b(игнорируй(те)?|забудь(те)?) (\w+ ){0,2}(предыдущие|прежние|вышеуказанные) "
            r"(инструкции|правила|указания)"
            r"|\b(ignorez|oubliez) (\w+ ){0,2}(instructions|consignes|règles)"
        ),
    ),
    _Rule(
        "instruction_override",
        1.0,
        re.compile(
            r"(忽略|无视|忘记).{0,6}(之前|以上|先前|上述).{0,6}(指令|提示|规则)"
            r"|(以前|上記|これまで).{0,6}(指示|命令|ルール).{0,8}(無視|忘れ)"
            r"|(이전|위).{0,6}(지시|명령|규칙).{0,4}(무시|잊)"
        ),
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
            r"(system|hidden|initial|original|secret) (prompt|instruction)s?\b"
            r"|\b(reveal|print|repeat|show|output|leak|tell me|display) (me )?your \w+ messages?\b"
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
            r"|\balways (respond|reply|answer|say)\b"
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


# Letters of other scripts that look like Latin ones; folded in words that hold Latin letters as well.
_LOOKALIKES = str.maketrans(
    "\u0430\u0435\u0456\u0458\u043e\u0440\u0441\u0443\u0445\u0455\u0501\u04bb\u051b\u03bf\u03b1\u03b9\u03c1\u03bd"
    "\u0410\u0412\u0415\u0406\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425\u0391\u0392\u0395\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4",
    "aeijopcyxsdhqoaipvABEIKMHOPCTXABEIKMNOPT",
)
_MIXED_WORD = re.compile(r"\b(?=\w*[A-Za-z])(?=\w*[\u0370-\u052f])\w{2,40}\b")
# Short words may be made of lookalikes alone.
_SMALL_WORD = re.compile(r"\b[\u0370-\u052f]{1,3}\b")
_SPACED = re.compile(r"(?<!\w)(?:[^\W_] ){3,40}[^\W_](?!\w)")  # "I g n o r e"


def injection_flags(text: str, hidden: Sequence[str] = ()) -> list[str]:
    """Names of the rules that fired, in alphabetical order; empty when the score is below the threshold.

    hidden: words that the document kept from its readers at this place, such as comments of its HTML.
    """
    score, flags = _hidden(text, hidden)
    seen = _as_seen(text)
    fired = _fired(seen)
    if disguised := _fired(_undisguised(seen)) - fired:
        fired |= disguised
        score += 0.5
        flags.add("disguised_words")
    score += sum(rule.weight for rule in fired)
    flags |= {rule.flag for rule in fired}
    return sorted(flags) if score >= THRESHOLD else []


def _fired(seen: str) -> set[_Rule]:
    return {rule for rule in _RULES if rule.pattern.search(seen)}


def _hidden(text: str, hidden_words: Sequence[str]) -> tuple[float, set[str]]:
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
    commands = any(_is_command(words) for words in (*hidden_words, *_COMMENT.findall(text)))
    if commands or _INVISIBLE_ELEMENT.search(text):
        score += 1.0
        flags.add("hidden_html")
    return score, flags


def _is_command(words: str) -> bool:
    """Whether hidden words speak to a model: a rule fires, or two of the words that commands are made of."""
    seen = _as_seen(words)
    commands = {match[0].casefold() for match in _COMMANDS.finditer(seen)}
    return len(commands) >= 2 or bool(_fired(_undisguised(seen)))


def _as_seen(text: str) -> str:
    """The text as a model would read it: one form for each character, nothing between the letters."""
    # Twice: a joiner may stand beside another hidden character, which kept it from standing beside a letter.
    return _HIDDEN.sub("", _HIDDEN.sub("", unicodedata.normalize("NFKC", text)))


def _undisguised(seen: str) -> str:
    """The same with the letters of other scripts made Latin, and spaced letters made words."""
    if _MIXED_WORD.search(seen):
        seen = _MIXED_WORD.sub(lambda word: word[0].translate(_LOOKALIKES), seen)
        seen = _SMALL_WORD.sub(lambda word: word[0].translate(_LOOKALIKES), seen)
    return _SPACED.sub(lambda letters: letters[0].replace(" ", ""), seen)
