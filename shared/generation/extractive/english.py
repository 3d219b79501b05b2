"""Just enough English grammar to find the subject and the verb of a plain statement.

Closed word classes (english.json) and a list of common verbs (verbs.txt), and no statistics. What is
not recognised is None, and the caller asks in a way that needs no grammar.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from shared.generation.extractive.verbs import (
    FormKind,
    base_form,
    irregular_participles,
    noun_like_verbs,
    verb_forms,
)

WORDS: dict[str, frozenset[str]] = {
    name: frozenset(words.split())
    for name, words in json.loads((Path(__file__).parent / "english.json").read_text("utf-8")).items()
}
AUXILIARIES = frozenset(["is", "are", "was", "were"])
MODALS = WORDS["modals"]
DETERMINERS = WORDS["determiners"]
PRONOUNS = WORDS["pronouns"]
RELATIVES = WORDS["relatives"]
PREPOSITIONS = WORDS["prepositions"]
BREAKS = WORDS["breaks"]  # where one clause ends and another begins
_ADVERBS = WORDS["adverbs"] | WORDS["negations"]
_DO = frozenset(["do", "does", "did"])
_BE = AUXILIARIES | MODALS | {"be", "been", "being", "has", "have", "had"}
_PARTICLES = frozenset(
    ["up", "down", "out", "off", "below", "above", "inside", "outside"]
)  # "each line below holds"
_SUBORDINATORS = frozenset(["until", "while", "if", "when", "because", "than"])
_PERSONAL = frozenset(["it", "they", "we", "you", "he", "she", "i", "what"])  # "the code it runs"
_POSSESSIVE = ("'s", "\u2019s")
_TOKEN = re.compile(r"[,;:]|[^\s,;:]+(?:[,:][^\s,;:]+)*")
_NUMBER = re.compile(r"[$€£]?\d[\d.,]*%?$")
_NOT = re.compile(r"\b(is|are|was|were|do|does|did|could|would|should|must|has|have)n['\u2019]t\b", re.I)
_BRACKETS = re.compile(r"\s*\([^()]*\)")
_DASH = re.compile("\\s*[\u2013\u2014]\\s*")
_MAX_SUBJECT_WORDS = 12


@dataclass(frozen=True)
class Clause:
    """A statement, taken apart: "The tower | was | finished on 14 March"."""

    subject: tuple[str, ...]
    auxiliary: str  # the word that changes places in a question: is, was, must, does, did
    verb: tuple[str, ...]  # what stays behind the subject: () for "is", "be" for "must be", else a base
    rest: tuple[str, ...]
    negation: str = ""  # never, not; empty for a statement that says yes

    @property
    def is_be(self) -> bool:
        """Whether it says what something is, or what is done to it."""
        return self.verb in ((), ("be",))


def words_of(sentence: str) -> list[str]:
    """Words and the marks between them; what stands in brackets is left out, and "isn't" is "is not"."""
    sentence = _DASH.sub(" \u2014 ", _BRACKETS.sub("", sentence))
    sentence = sentence.replace("\u2019", "'").replace("can't", "cannot").replace("won't", "will not")
    return _TOKEN.findall(_NOT.sub(r"\1 not", sentence).rstrip(".! "))


def parse(words: list[str]) -> Clause | None:
    """The first clause of a statement that begins with its subject; None when it is not seen to be one."""
    first = words[0].lower() if words else ""
    if len(words) < 3 or first in PREPOSITIONS | BREAKS | WORDS["openings"] or _begins_with_verb(words):
        return None
    at = _verb_index(words)
    if at is None or at > _MAX_SUBJECT_WORDS + 1 or _is_doubtful(words[:at]):
        return None
    subject, negation = _subject(words[:at])
    word, rest = words[at].lower(), words[at + 1 :]
    if word == "cannot":
        word, negation = "can", "not"
    elif rest and rest[0] in WORDS["negations"]:
        negation, rest = rest[0], rest[1:]
    # "is also used", "is used only by", "is commonly written"
    rest = [w for i, w in enumerate(rest) if not (i < 2 and w in _ADVERBS) and not (i == 0 and is_manner(w))]
    if word in AUXILIARIES:
        return Clause(subject, word, (), tuple(rest), negation)
    if word in MODALS or word in _DO:
        is_verb = bool(rest) and rest[0].isalpha()
        return Clause(subject, word, (rest[0],), tuple(rest[1:]), negation) if is_verb else None
    form = _form(words, at)
    if form is None:
        return None
    auxiliary = {"s": "does", "base": "do", "past": "did"}[form[1]]
    return Clause(subject, auxiliary, (form[0],), tuple(rest), negation)


def is_number(word: str) -> bool:
    """Whether it is a number, in digits or in words; "one" is none, it is as often an article."""
    return bool(_NUMBER.match(word)) or word.lower().split("-")[0] in WORDS["numbers"]


def is_participle(word: str) -> bool:
    """Whether "is <word>" would be something done: painted, held, kept."""
    if word in irregular_participles():
        return True
    is_regular = len(word) > 3 and word.endswith("ed") and word.isalpha() and word.islower()
    return is_regular and word not in WORDS["no participles"]


def is_manner(word: str) -> bool:
    """Whether the word says how: slowly, commonly."""
    return len(word) > 4 and word.endswith("ly") and word.islower() and word not in WORDS["no adverbs"]


def is_plural(noun_phrase: list[str] | tuple[str, ...]) -> bool:
    """Whether the phrase stands for more than one: by its head, the noun before the first preposition."""
    lower = [word.lower() for word in noun_phrase]
    end = next((i for i, word in enumerate(lower) if i and word in PREPOSITIONS | RELATIVES), len(lower))
    if "and" in lower[:end] and lower[0] not in ("every", "each"):
        return True
    head = lower[end - 1]
    if head in WORDS["plurals without s"]:
        return True
    is_singular = head.endswith(("ss", "us", "is", "ics", *_POSSESSIVE)) or head in WORDS["singulars in s"]
    return head.endswith("s") and not is_singular


def is_command(words: list[str]) -> bool:
    """Whether the sentence begins with a verb and what it is to be done to: "Press the button"."""
    first, second = words[0].lower(), words[1]
    if base_form(first) != first:
        return False
    is_object = (
        second.lower() in DETERMINERS | PRONOUNS | _ADVERBS or is_number(second) or not second.islower()
    )
    return is_object or (first not in noun_like_verbs() and second in PREPOSITIONS - {"of"})


def noun_phrases(sentence: str) -> list[str]:
    """What begins with "the", "a" or "each" and ends before the next verb or small word; four words."""
    words, found = words_of(sentence), []
    for i, word in enumerate(words):
        if word.lower() in WORDS["articles"]:
            end = i + 1
            while end < min(len(words), i + 4) and _is_noun_like(words[end]) and words[end - 1][-1] != ".":
                end += 1
            if end > i + 1:
                found.append(" ".join((word.lower(), *words[i + 1 : end])).rstrip(".!?\"'"))
    return found


def _is_noun_like(word: str) -> bool:
    lower = word.lower()
    small = PREPOSITIONS | BREAKS | DETERMINERS | PRONOUNS | RELATIVES | _BE | _ADVERBS
    if lower in small or is_manner(lower) or not word[0].isalnum():
        return False
    is_verb = any(base not in noun_like_verbs() for base, _ in verb_forms().get(word, ()))
    return not is_verb or word.endswith("ed")


def _subject(words: list[str]) -> tuple[tuple[str, ...], str]:
    """The subject without adverbs and appositions, and the negation that stood with it."""
    negation = ""
    while len(words) > 1 and (words[-1] in _ADVERBS or is_manner(words[-1])):
        negation = words[-1] if words[-1] in WORDS["negations"] else negation
        words = words[:-1]
    if words[-1] == ",":
        # "The second keeper, Wilhelmina Crake," is one keeper.
        words = words[: words.index(",")]
    return tuple(words), negation


def _is_doubtful(subject: list[str]) -> bool:
    """Whether commas or conjunctions leave open where the subject ends."""
    if (_SUBORDINATORS | _PERSONAL) & {word.lower() for word in subject[1:]}:
        return True
    if "," not in subject:
        return False
    if RELATIVES & set(subject[subject.index(",") :]):
        return True
    return subject[-1] != "," and not {"and", "or"} & set(subject[-4:])


def _begins_with_verb(words: list[str]) -> bool:
    """ "Returns the number of ...": its subject is left out."""
    opens_object = words[1] in DETERMINERS | RELATIVES | {"whether", "how"}
    return is_command(words) or any(
        kind == "s" and (base not in noun_like_verbs() or opens_object)
        for base, kind in verb_forms().get(words[0].lower(), ())
    )


def _verb_index(words: list[str]) -> int | None:
    """Where the finite verb of the main clause stands."""
    in_relative = was_skipped = False
    for i in range(1, min(len(words), 24)):
        word = words[i]
        if word in (";", ":") or (word == "," and words[i + 1 : i + 2] in (["and"], ["but"], ["so"])):
            return None
        if word in RELATIVES and words[i - 1] != ",":
            in_relative = True
        elif in_relative and (word in AUXILIARIES | MODALS or _form(words, i)):
            in_relative, was_skipped = False, True
        elif was_skipped and (word in _ADVERBS or is_participle(word) or word == "be"):
            continue  # "that was also built": what goes with the verb that was skipped
        elif _is_finite(words, i):
            return i
        else:
            was_skipped = False
    return None


def _is_finite(words: list[str], i: int) -> bool:
    word, after = words[i], words[i + 1] if i + 1 < len(words) else ""
    if word in AUXILIARIES | MODALS or (word in _DO and after == "not"):
        return True
    form = _form(words, i)
    if form is None or after in AUXILIARIES | MODALS:
        return False  # "atomic writes are supported"
    if form == (word, "past") and not _starts_phrase(after):
        return False  # "the cost preview", "the read timeout"
    is_past = form[1] == "past"
    if is_past and is_participle(word) and after in PREPOSITIONS and not _starts_time(words[i + 1 : i + 3]):
        return False  # "data received from the network": what was done to it, not what it did
    may_be_noun = form[0] in noun_like_verbs() and not is_past
    if (may_be_noun or is_past) and _verb_follows(words, i):
        return False  # "the book published in 1990 contains", "the night shifts are"
    return not may_be_noun or not after or _starts_phrase(after)


def _form(words: list[str], i: int) -> tuple[str, FormKind] | None:
    """Base and kind of the verb at i, if a verb may stand there and agrees with what is before it."""
    word, before = words[i], words[i - 1].lower()
    follows_small_word = (before in DETERMINERS and before != "that") or before in _BE
    if not word.islower() or follows_small_word or before.endswith(_POSSESSIVE):
        return None
    if is_number(before) and words[i - 1].islower():  # but "Room Three keeps"
        return None
    if before in PREPOSITIONS and before not in _PARTICLES:
        return None
    subject = [w for w in words[:i] if w.lower() not in _ADVERBS] or words[:i]
    plural = is_plural(subject) or subject[-1].lower() in ("they", "we", "you", "i")
    for base, kind in verb_forms().get(word, ()):
        if kind == "past" or (kind == "base") == plural:
            return base, kind
    return None


def _verb_follows(words: list[str], i: int) -> bool:
    """Whether the same clause has a clearer verb further on."""
    for j in range(i + 1, min(len(words), i + 14)):
        if words[j] in BREAKS:
            return False
        if words[j] in AUXILIARIES | MODALS:
            return True
        form = _form(words, j)
        if form and form[1] == "s" and form[0] not in noun_like_verbs():
            return True
    return False


def _starts_time(words: list[str]) -> bool:
    """ "in 1907", "on Monday"."""
    return (
        len(words) == 2 and words[0] in ("in", "on", "at") and (is_number(words[1]) or words[1][0].isupper())
    )


def _starts_phrase(word: str) -> bool:
    lower = word.lower()
    is_known = lower in DETERMINERS | PREPOSITIONS | PRONOUNS | _ADVERBS or is_manner(lower)
    return is_known or is_number(word) or word != lower
