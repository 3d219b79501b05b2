"""Forms of common English verbs, from the list in verbs.txt."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Literal

FormKind = Literal["s", "base", "past"]


@lru_cache(maxsize=1)
def verb_forms() -> dict[str, list[tuple[str, FormKind]]]:
    """Each form, with the verbs that it may belong to: "read" is the base and the past of one."""
    found: dict[str, list[tuple[str, FormKind]]] = {}
    for first, *irregular in _lines():
        base = first.rstrip("*")
        third = "has" if base == "have" else _third_person(base)
        past = irregular[0] if irregular else _regular_past(base)
        kinds: tuple[tuple[str, FormKind], ...] = ((third, "s"), (base, "base"), (past, "past"))
        for form, kind in kinds:
            found.setdefault(form, []).append((base, kind))
    return found


@lru_cache(maxsize=1)
def noun_like_verbs() -> frozenset[str]:
    """Verbs whose -s form is as often a plural noun."""
    return frozenset(line[0].rstrip("*") for line in _lines() if line[0].endswith("*"))


@lru_cache(maxsize=1)
def irregular_participles() -> frozenset[str]:
    return frozenset(line[2] for line in _lines() if len(line) == 3)


def base_form(word: str) -> str | None:
    """The base of a verb form; None for a word that is no known verb."""
    forms = verb_forms().get(word.lower())
    return forms[0][0] if forms else None


@lru_cache(maxsize=1)
def _lines() -> list[list[str]]:
    text = (Path(__file__).parent / "verbs.txt").read_text(encoding="utf-8")
    return [line.split() for line in text.splitlines() if line and not line.startswith("#")]


def _third_person(base: str) -> str:
    if re.search(r"[^aeiou]y$", base):
        return base[:-1] + "ies"
    return base + ("es" if re.search(r"(s|x|z|ch|sh|o)$", base) else "s")


def _regular_past(base: str) -> str:
    if re.search(r"[^aeiou]y$", base):
        return base[:-1] + "ied"
    return base + ("d" if base.endswith("e") else "ed")
