"""Questions for names, persons, places, things and rules. Each gives None where it does not fit."""

from __future__ import annotations

import re

from shared.generation.extractive.asking import Statement, split_noun_phrase, starts_noun_phrase
from shared.generation.extractive.english import (
    DETERMINERS,
    PREPOSITIONS,
    WORDS,
    is_number,
    is_participle,
    is_plural,
)
from shared.generation.extractive.measures import LEADING_NUMBER, WHEN
from shared.generation.extractive.verbs import base_form

_ROLE = re.compile(rf"(?:{'|'.join(sorted(WORDS['roles']))})s?$|people$")
_CALLED = re.compile(r"(called|named|known as|nicknamed|titled)\b")
_DONE_BY = re.compile(r"(?P<done>\w+(?: [a-z]+){0,5}?) by (?P<agent>.+)")
_PURPOSE = re.compile(r"(used|needed|required|designed|intended|meant) to [a-z]")
_DONE_WITH = re.compile(
    r"(?P<done>\w+) (?P<how>of|with|from|for|to|as|in|into|on|by|about|at|against|under) (?P<what>\S+)"
)
_KIND = re.compile(r"the (shape|colour|color|name|size|form|title|task|role|right|duty|job) (of|to)\b")
_ASKS_WHAT = frozenset(["for", "with", "of", "on", "from", "about", "into", "by", "after", "as", "to"])


def called(said: Statement) -> str | None:
    name = _CALLED.match(said.core)
    return said.ask("What", name[1]) if name and said.clause.is_be else None


def by_whom(said: Statement) -> str | None:
    by = _DONE_BY.match(said.core)
    if by is None or not said.clause.is_be or WHEN.match(f"by {by['agent']}"):
        return None
    done, *between = by["done"].split()
    if not is_participle(done) or any(word in PREPOSITIONS for word in between[:-1]):
        return None
    agent = split_noun_phrase(LEADING_NUMBER.sub("", by["agent"], count=1))[0].split(" of ")[0]
    is_person = any(word[0].isupper() for word in agent.split()) or bool(_ROLE.search(agent))
    return said.ask("Who" if is_person else "What", by["done"], "by")


def where(said: Statement) -> str | None:
    words, done = said.words, ""
    if said.verb in WORDS["going somewhere"] and words[:1] in (["to"], ["from"]):
        return said.ask("Where", words[0].replace("to", ""))
    if said.clause.is_be and words and is_participle(words[0]) and words[0] not in WORDS["done in something"]:
        done, *words = words
    elif not said.clause.is_be and said.verb not in WORDS["being somewhere"]:
        return None
    if len(words) < 2 or words[0] not in WORDS["places"] or is_number(words[1]):
        return None
    is_placed = not done or done in WORDS["done at a place"]
    is_place = words[1] == "the" or words[1][0].isupper()
    return said.ask("Where", done) if is_placed or is_place else None


def what_is(said: Statement) -> str | None:
    words = said.words
    if said.verb or not words or not starts_noun_phrase(words[0]):
        return None
    is_role = words[0][0].isupper() and bool(_ROLE.search(said.subject.split(" of ")[0]))
    is_name = said.subject.istitle() and " " in said.subject
    is_person = is_role or (is_name and any(_ROLE.search(word) for word in words[:4]))
    return said.ask("Who" if is_person else "What")


def what_kind(said: Statement) -> str | None:
    kind = _KIND.match(said.core)
    return said.ask(f"What {kind[1]}") if kind and said.verb == "have" else None


def what_with(said: Statement) -> str | None:
    if said.verb:
        return None
    if said.words[:1] == ["worth"] and len(said.words) > 1:
        return said.ask("What", "worth")
    if purpose := _PURPOSE.match(said.core):
        return said.ask("What", purpose[1], "for")
    done = _DONE_WITH.match(said.core)
    if done is None or not is_participle(done["done"]):
        return None
    if done["how"] == "to" and base_form(done["what"]) == done["what"]:
        return said.ask("Why", done["done"])
    is_idiom = done["how"] == "in" and not starts_noun_phrase(done["what"])  # "in full", "in advance"
    return None if is_idiom else said.ask("What", done["done"], done["how"])


def what_does(said: Statement) -> str | None:
    words = said.words
    if said.clause.is_be or not words:
        return None
    first, second = words[0], words[1] if len(words) > 1 else ""
    if first == "to" and second and base_form(second) == second:
        return said.ask("What", "to do")
    if first in ("you", "users", "us", "developers") and len(words) > 2:
        return said.ask("What", first, "to do" if second == "to" else "do")
    if first in PREPOSITIONS:
        asks_what = first in _ASKS_WHAT and said.verb not in WORDS["going somewhere"]
        return said.ask("What", first) if asks_what else None
    is_object = len(words) > 1 or first[0].isupper() or is_plural(words)
    return said.ask("What") if is_object and not first.endswith("ly") else None


def what_do(said: Statement) -> str | None:
    if said.clause.is_be or said.verb in ("have", "begin", "start"):
        return None
    return said.with_verb("do").ask("What")


def what_must_be(said: Statement) -> str | None:
    words = said.words
    if said.verb != "be" or not words:
        return None
    if len(words) > 1 and is_participle(words[0]):
        return said.ask("How", words[0])
    return f"What is the rule about {said.subject}?"


def what_like(said: Statement) -> str | None:
    words = said.words
    if said.verb or said.clause.negation or not words or is_participle(words[0]):
        return None
    is_adjective = words[0].isalpha() and words[0].islower() and words[0] not in PREPOSITIONS | DETERMINERS
    return said.ask("What", "like") if is_adjective else None
