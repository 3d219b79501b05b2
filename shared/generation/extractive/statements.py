"""An English sentence -> questions, whatever it begins with: a subject, a number, a condition, a command."""

from __future__ import annotations

import re

from shared.generation.extractive.english import (
    DETERMINERS,
    PREPOSITIONS,
    PRONOUNS,
    RELATIVES,
    is_command,
    is_number,
    is_plural,
    parse,
    words_of,
)
from shared.generation.extractive.language import quotable
from shared.generation.extractive.questions import Question, questions
from shared.generation.extractive.verbs import base_form

_CONDITIONS = frozenset(["if", "when", "whenever", "once", "unless", "after", "before", "while"])
_CONNECTIVES = re.compile(
    r"^(?:However|Therefore|Also|Additionally|Moreover|Furthermore|Finally|Then|Instead|Otherwise|For example"
    r"|In addition|(?:Please )?[Nn]ote that|As a result|In general|Usually|Normally|Typically|Currently"
    r"|Today),? "
)
_NOTICE = re.compile(r"^(?:Notes?|Warning|Tip|Important|Caution|Info|Hint|Attention|Reminder): ", re.I)
# "This function" is one that the heading names.
_POINTING = frozenset(
    ["this", "these", "those", "that", "its", "their", "his", "her", "our", "your", "my", "such"]
)
_QUANTIFIER = re.compile(
    r"^(?:at most|at least|up to|about|around|over|more than|less than|fewer than|only|nearly) ", re.I
)
_MAX_QUESTION_CHARS = 160
_MARKUP = re.compile(r"https?:|[\[\]{}<>|\\=*`()]|[.!?;:] |--")


def ask(sentence: str, around: str, heading: str | None) -> list[Question]:
    """Questions that the sentence answers, the most telling first; empty when none can be put well.

    `sentence` is plain text; `around` is the text that it stands in, which tells names from words.
    """
    sentence = _CONNECTIVES.sub("", _NOTICE.sub("", sentence))
    sentence = sentence[:1].upper() + sentence[1:]
    words = words_of(sentence)
    if not 4 <= len(words) <= 45:
        return []
    found = _counted(words) + _conditional(words) + _statement(words, around, heading)
    found = found or _led(words, around) or _command(words)
    return [question for question in found if is_well_put(question.text)]


def is_well_put(question: str) -> bool:
    """Whether a question reads like one: short, on one line, without markup."""
    inside = question[:-1]
    return 12 <= len(question) <= _MAX_QUESTION_CHARS and "\n" not in question and not _MARKUP.search(inside)


def subject_name(subject: tuple[str, ...], around: str) -> str:
    """The subject of a sentence as it is written in the middle of one: a name keeps its capital."""
    first, *others = subject
    name = " ".join((_small(first, others, around), *others))
    return re.sub(r" ([,;:])", r"\1", name)


def _small(first: str, others: list[str], around: str) -> str:
    small = first[:1].lower() + first[1:]
    if first.lower() in DETERMINERS | PREPOSITIONS | PRONOUNS or is_number(first):
        return small
    if not first[1:].islower() or re.search(rf"(?<=[a-z,] ){re.escape(first)}\b", around):
        return first  # an abbreviation, or a name that has its capital inside sentences too
    if others and not others[0][:1].islower():
        return first  # "Skerrow Light", "Room Three"
    if re.search(rf"(?<![A-Za-z]){re.escape(small)}\b", around):
        return small
    return small if others or is_plural([first]) else first


def _statement(words: list[str], around: str, heading: str | None) -> list[Question]:
    """It begins with its subject."""
    there = _there_are(words)
    if there:
        return there
    clause = parse(words)
    if clause is None or len(clause.subject) > 12:
        return []
    first = clause.subject[0].lower()
    if first in PRONOUNS | DETERMINERS and (len(clause.subject) == 1 or first in PRONOUNS - _POINTING):
        return []
    name = subject_name(clause.subject, around)
    found = questions(clause, name)
    if not found and heading:
        found = [Question(f'What does "{quotable(heading)}" say about {name}?', 0.35)]
    if first in _POINTING:
        # "This function" is none in particular; the heading says which.
        return [_in_heading(question, heading) for question in found] if heading else []
    return found


def in_heading(question: str, heading: str) -> str:
    """The same question, asked of one section."""
    if quotable(heading) in question:
        return question
    return f'In "{quotable(heading)}", {question[:1].lower()}{question[1:]}'


def _in_heading(question: Question, heading: str) -> Question:
    return Question(in_heading(question.text, heading), question.weight - 0.2)


def _there_are(words: list[str]) -> list[Question]:
    if words[0] != "There" or words[1] not in ("is", "are", "was", "were"):
        return []
    rest = _until_comma(words[2:])
    if not rest or rest[0] == "no":
        return []
    if is_number(rest[0]) and len(rest) > 1:
        return [Question(f"How many {_first_noun(rest[1:], f'{words[1]} there')}?", 0.95)]
    place = next((i for i, word in enumerate(rest) if word in PREPOSITIONS and word != "of"), None)
    if place is None or place == 0:
        return []
    return [Question(f"What {words[1]} there {' '.join(rest[place:])}?", 0.6)]


def _first_noun(words: list[str], verb: str) -> str:
    """ "apple trees in the orchard" -> "apple trees are there in the orchard"."""
    stops = PREPOSITIONS - {"of"} | RELATIVES
    end = next((i for i, word in enumerate(words) if i and word in stops), len(words))
    return " ".join((*words[:end], verb, *words[end:]))


def _counted(words: list[str]) -> list[Question]:
    """ "At most 25 visitors may be in the tower" -> how many visitors."""
    text = _QUANTIFIER.sub("", " ".join(words))
    number, *rest = text.split(" ")
    if not is_number(number.lower()) or not rest or "%" in number:
        return []
    clause = parse(["Some", *rest])
    if clause is None or not is_plural(clause.subject[1:] or ("",)):
        return []
    verb = " ".join(rest[len(clause.subject) - 1 :])
    return [Question(f"How many {' '.join(clause.subject[1:])} {verb.split(' , ')[0]}?", 0.95)]


def _conditional(words: list[str]) -> list[Question]:
    """ "If the bell rings, visitors must leave" -> what happens if the bell rings."""
    condition, result = _lead(words)
    names_nothing = bool(condition) and condition[-1] in ("so", "this", "that", "it")
    is_purpose = words[0].lower() == "to" and len(condition) > 1 and base_form(condition[1]) == condition[1]
    if is_purpose and not names_nothing:
        return [Question(f"How do you {' '.join(condition[1:])}?", 0.9)]
    is_vague = len(condition) < 3 or condition[1].lower() in PRONOUNS - {"you", "your", "there"}
    if words[0].lower() not in _CONDITIONS or is_vague or len(result) < 2:
        return []
    is_advice = is_command(result) or "should" in result or result[:1] == ["do"]
    asked = "What should you do" if is_advice else "What must happen" if "must" in result else "What happens"
    return [Question(f"{asked} {condition[0].lower()} {' '.join(condition[1:])}?", 0.85)]


def _led(words: list[str], around: str) -> list[Question]:
    """ "In 1907, a goat found the spring" -> what did a goat find in 1907."""
    lead, rest = _lead(words)
    if not lead or words[0].lower() not in PREPOSITIONS or len(lead) > 7 or len(rest) < 3:
        return []
    clause = parse(rest)
    if clause is None or clause.subject[0].lower() in PRONOUNS:
        return []
    words_of_lead = " ".join((lead[0].lower(), *lead[1:]))
    found = questions(clause, subject_name((rest[0], *clause.subject[1:]), around))
    return [
        Question(f"{question.text[:-1]} {words_of_lead}?", question.weight - 0.05)
        for question in found
        if not question.text.startswith(("When", "Until", "Since"))
    ]


def _command(words: list[str]) -> list[Question]:
    """ "Press the red button to stop the lamp" -> how do you stop the lamp."""
    is_forbidden = [word.lower() for word in words[:2]] == ["do", "not"] or words[0] == "Never"
    if is_forbidden:
        verb = words[2 if words[0].lower() == "do" else 1]
        return [Question(f"What should you never {verb}?", 0.45)] if base_form(verb) == verb else []
    if not is_command(words):
        return []
    body = _until_comma(words)
    for i, word in enumerate(body[2:-1], start=2):
        after = body[i + 1]
        if word == "to" and base_form(after) == after:
            return [Question(f"How do you {' '.join(body[i + 1 :])}?", 0.8)]
        if word in ("if", "when", "before", "after") and after not in PRONOUNS - {"you", "your"}:
            return [Question(f"What should you do {' '.join(body[i:])}?", 0.7)]
    return []


def _lead(words: list[str]) -> tuple[list[str], list[str]]:
    """What stands before the first comma, and what follows it."""
    if "," not in words[1:16]:
        return [], []
    comma = words.index(",")
    return words[:comma], words[comma + 1 :]


def _until_comma(words: list[str]) -> list[str]:
    end = next((i for i, word in enumerate(words) if word in (",", ";", ":", "–", "—")), len(words))  # noqa: RUF001
    return words[:end]
