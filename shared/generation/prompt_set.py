"""The prompts that models are asked with: files, each of which a project may replace by a text of its own."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from shared.errors import InvalidRequest

if TYPE_CHECKING:  # the command line reads prompts too, and must start quickly
    from shared.db import Database

MAX_PROMPT_CHARS = 8_000
_FOLDER = Path(__file__).parent / "prompts"


@dataclass(frozen=True)
class Variables:
    """What a prompt may hold as `$name`. A prompt without any is a text as it stands."""

    needed: frozenset[str] = frozenset()
    allowed: frozenset[str] = frozenset()  # besides the needed ones


def _variables(needed: str, allowed: str = "") -> Variables:
    return Variables(frozenset(needed.split()), frozenset(allowed.split()))


# What each prompt is for, and what it is filled with.
PROMPTS: dict[str, Variables] = {
    "rules": _variables("task count shape canary", "variety reasoning style"),  # the system's turn
    "source": _variables("content fence", "section"),  # the user's turn
    "auto": Variables(),  # the task of each mode
    "qa": Variables(),
    "instruction": Variables(),
    "conversation": Variables(),
    "variety": _variables("", "audience genre style"),  # whom and how to write for, chunk by chunk
    "reasoning": Variables(),  # how to think aloud, where that is wanted
    "judge": _variables("shape canary"),  # the system's turn of the second call
    "judge_source": _variables("content examples fence", "section"),
}
VARIETY_SECTIONS = ("Audiences", "Genres", "Styles")


@dataclass(frozen=True)
class Prompts:
    """The prompts of a project. Raises InvalidRequest when one of its own cannot be used."""

    own: Mapping[str, str] = field(default_factory=dict)  # by name; the others are those of the files

    def __post_init__(self) -> None:
        for name, content in self.own.items():
            check_prompt(name, content)

    def text(self, name: str) -> str:
        return self.own[name] if name in self.own else default_prompt(name)

    def filled(self, name: str, **values: object) -> str:
        """The prompt with its variables replaced; `$` in the values stays as it is."""
        return Template(self.text(name)).substitute(values)

    def hash(self, names: Iterable[str], *options: object) -> str:
        """SHA-256 of these prompts and options, shortened: equal prompts, equal hash."""
        told = [*map(self.text, names), *(repr(option) for option in options)]
        return hashlib.sha256("\0".join(told).encode()).hexdigest()[:16]


def default_prompt(name: str) -> str:
    """The prompt as the file has it."""
    return (_FOLDER / f"{name}.md").read_text(encoding="utf-8")


def check_prompt(name: str, content: str) -> None:
    """Raises InvalidRequest that says what is wrong with a project's own prompt, and how to mend it."""
    if name not in PROMPTS:
        raise _refusal(name, f"There is no prompt of this name. There are: {', '.join(PROMPTS)}.")
    if not content.strip():
        raise _refusal(name, "It is empty. Reset it to have the built-in one.")
    if len(content) > MAX_PROMPT_CHARS:
        raise _refusal(name, f"It has {len(content):,} characters; {MAX_PROMPT_CHARS:,} are the most.")
    if "\0" in content:
        raise _refusal(name, "It holds a NUL.")
    if name == "variety":
        _check_variety(content)
    variables = PROMPTS[name]
    if variables == Variables():
        return
    _check_variables(name, content.split("\n#")[0] if name == "variety" else content, variables)


async def read_prompts(db: Database, project_id: str) -> Prompts:
    """The prompts of this project. Raises InvalidRequest when one of its own cannot be used."""
    query = db.table("project_prompts").select("name,content").eq("project_id", project_id)
    return Prompts({row["name"]: row["content"] for row in (await db.run(query)).data})


def sections(variety: str) -> dict[str, list[str]]:
    """The items under each heading of the prompt `variety`."""
    found: dict[str, list[str]] = {}
    heading = ""
    for line in variety.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ").strip()
        elif heading and (item := re.sub(r"^\s*[-*]\s+", "", line).strip()):
            found.setdefault(heading, []).append(item)
    return found


def _check_variables(name: str, content: str, variables: Variables) -> None:
    known = variables.needed | variables.allowed
    listed = ", ".join(f"${variable}" for variable in sorted(known))
    template = Template(content)
    if not template.is_valid():
        faulty = next(match for match in template.pattern.finditer(content) if match["invalid"] is not None)
        line = content.count("\n", 0, faulty.start()) + 1
        raise _refusal(
            name,
            f"Line {line} has a $ that begins no variable. Write $$ for the sign itself. Known: {listed}.",
        )
    used = set(template.get_identifiers())
    if unknown := sorted(used - known):
        raise _refusal(
            name, f"${unknown[0]} is no variable of it. Known: {listed}. Write $$ for the sign itself."
        )
    if missing := sorted(variables.needed - used):
        raise _refusal(name, f"It lacks ${missing[0]}, without which it cannot work. Known: {listed}.")


def _check_variety(content: str) -> None:
    found = sections(content)
    for section in VARIETY_SECTIONS:
        if not found.get(section):
            raise _refusal(
                "variety", f'It lacks items under the heading "# {section}". Write at least one: "- ...".'
            )


def _refusal(name: str, problem: str) -> InvalidRequest:
    return InvalidRequest(
        f"The project's prompt {name!r} cannot be used. {problem}",
        code="prompt_invalid",
        details={"prompt": name},
    )
