"""Pairs without a model: questions that sentences of a text answer, answered by those sentences.

Needs no key and no network, and gives the same pairs for the same text. Each answer is a whole sentence
or list item of the document, found again at its span.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shared.documents.language import ENGLISH
from shared.documents.markdown import Block, blocks, heading_title, plain
from shared.documents.quality import words
from shared.documents.sentences import sentences
from shared.generation.extractive.language import Language, detect, distinctive_phrase, quotable
from shared.generation.extractive.questions import Question
from shared.generation.extractive.statements import ask, in_heading, is_well_put
from shared.generation.source import Draft, Drafts, Mode, SourceChunk, Verdicts

_MIN_WORDS, _MAX_CHARS = 5, 220
_LIKED_CHARS = range(40, 161)
_MAX_RAW_CHARS = 600  # with markup
_MIN_LETTERS = 0.6
_CODE = re.compile(
    r"(?<!:)//|\$\(|[{}]|\(\)|=>|->|::|&&|;\s*$|^\s*(?:\$|>>>|#!|import |from \S+ import)"
    r"|\w\.\w+\(|</|\]\(.*\]\("
)
_LABEL = re.compile(r"(?P<label>[^:\u2013\u2014.!?()]{2,60}?)(?:\s*:|\s+[\u2013\u2014-])\s+(?P<value>\S.*)")
_NOT_A_LABEL = re.compile(r"(?:notes?|warning|tip|important|caution|info|hint|(for )?example|e\.g)\b", re.I)
# What is set apart at the start of an item: `name` (default: 1), **Name** ...
_MARKED = re.compile(r"(?:`[^`\n]{2,40}`|\*\*[^*\n]{2,40}\*\*)(?= ?[(:,.\u2013\u2014-])")
_LINK = re.compile(r"\[[^\]]*\]\([^)]*\)[.!]?")  # a line of a table of contents
_ADDRESS = re.compile(r"\S+://\S+|www\.\S+|\S+@\S+")
# How an answer begins that is not clear by itself.
_OPEN = re.compile(
    r"(?:It|They|He|She|This|That|These|Those|Here|But|And|Or|So|Because|Such|Which|We|I|You)\b"
)


@dataclass(frozen=True)
class _Fact:
    """A sentence or list item that can answer a question."""

    start: int  # in the chunk
    end: int
    said: str  # without markup, on one line
    heading: str | None
    opens_section: bool  # whether it comes first under its heading


class ExtractiveGenerator:
    """The generator behind the protocol that language models serve too."""

    name = "extractive"
    at_once = 1  # it only computes
    prompt_hash = None

    def __init__(self, mode: Mode) -> None:
        self._turns = 2 if mode == "conversation" else 1

    async def draft(self, chunk: SourceChunk, count: int) -> Drafts:
        drafts = extract(chunk, count * self._turns)
        return Drafts([_joined(drafts[i : i + self._turns]) for i in range(0, len(drafts), self._turns)])

    async def judge(self, chunk: SourceChunk, drafts: Sequence[Draft]) -> Verdicts:
        """Nothing: its answers are sentences of the document."""
        return Verdicts()

    async def close(self) -> None:
        """It holds nothing."""


def _joined(drafts: list[Draft]) -> Draft:
    """One conversation of several questions; its span is that of the last answer."""
    turns = tuple(turn for draft in drafts for turn in draft.turns)
    return Draft(turns, drafts[-1].char_start, drafts[-1].char_end)


def extract(chunk: SourceChunk, count: int) -> list[Draft]:
    """At most `count` pairs in the order of the text, the most telling ones of the chunk.

    No two of them ask the same.
    """
    language = detect(chunk.content)
    offers = [(fact, _options(fact, chunk, language)) for fact in _facts(chunk)]
    offers.sort(key=lambda offer: (-_worth(*offer), offer[0].start))
    chosen: dict[int, Draft] = {}
    taken: set[str] = set()
    for fact, options in offers:
        if len(chosen) == count:
            break
        free = next((o.text for o in options if o.text.casefold() not in taken), None)
        if free is not None and fact.said not in taken:
            taken |= {free.casefold(), fact.said}
            chosen[fact.start] = _draft(chunk, fact, free)
    return [chosen[start] for start in sorted(chosen)]


def answer_text(raw: str) -> str:
    """A span of Markdown on one line: line breaks and the marks of a quotation become blanks."""
    return " ".join(re.sub(r"\n[ \t]*(?:>[ \t]?)+", "\n", raw).split())


def _draft(chunk: SourceChunk, fact: _Fact, question: str) -> Draft:
    answer = answer_text(chunk.content[fact.start : fact.end])
    return Draft(((question, answer),), chunk.char_start + fact.start, chunk.char_start + fact.end)


def _worth(fact: _Fact, options: list[Question]) -> float:
    """How good a pair it makes: how telling the question is, how long and how clear by itself the answer."""
    best = options[0].weight if options else 0.0
    fits = 0.1 if len(fact.said) in _LIKED_CHARS else 0.0
    return best + fits - (0.3 if _OPEN.match(fact.said) else 0.0)


def _facts(chunk: SourceChunk) -> Iterator[_Fact]:
    heading = chunk.heading_path[-1] if chunk.heading_path else None
    opens_section = True
    for block in blocks(chunk.content):
        if block.kind == "heading":
            heading, opens_section = heading_title(chunk.content, block) or heading, True
        elif block.kind in ("paragraph", "item"):
            for start, end in _spans(chunk.content, block):
                said = plain(chunk.content[start:end]) if end - start <= _MAX_RAW_CHARS else ""
                if _is_fact(said) and not _LINK.fullmatch(chunk.content, start, end):
                    yield _Fact(start, end, said, heading, opens_section)
                opens_section = False


def _spans(text: str, block: Block) -> list[tuple[int, int]]:
    """The sentences of a block; an item that is short enough stays whole."""
    end = block.start + len(text[block.start : block.end].rstrip())
    if block.kind == "item" and end - block.start <= _MAX_CHARS:
        return [(block.start, end)]
    return list(sentences(text, block.start, end))


def _is_fact(said: str) -> bool:
    """Whether it is a statement of a length that can be learned, in words rather than in code."""
    if len(said) > _MAX_CHARS or said.endswith((":", "?", "\uff1f", "\uff1a")) or _CODE.search(said):
        return False
    letters = sum(char.isalpha() or char.isspace() for char in said)
    return len(words(_ADDRESS.sub("", said))) >= _MIN_WORDS and letters >= _MIN_LETTERS * len(said)


def _options(fact: _Fact, chunk: SourceChunk, language: Language) -> list[Question]:
    """Questions for a fact, the most telling first; the later ones serve when an earlier one is taken."""
    found: list[Question] = []
    if fact.opens_section and fact.heading and re.fullmatch(r".{12,}[?\uff1f]", fact.heading):
        found.append(Question(fact.heading, 1.0))
    found += _about_label(fact, chunk, language)
    if language.code == ENGLISH and not found:
        found += _about_statement(fact, chunk)
        # Better the telling question asked of its section than a vague one.
        found += [Question(in_heading(q.text, fact.heading), 0.65) for q in found[:1] if fact.heading]
    phrase = distinctive_phrase(fact.said, chunk.content, language)
    if phrase is not None:
        found.append(Question(language.ask_about(phrase, fact.heading), 0.3))
    return sorted(found, key=lambda question: -question.weight)


def _about_statement(fact: _Fact, chunk: SourceChunk) -> list[Question]:
    """What grammar makes of the first sentence. A fragment of a list is none."""
    _, end = next(sentences(fact.said, 0, len(fact.said)))
    first = fact.said[:end]
    is_sentence = first[-1] in ".!" or re.match(r"(?:The|An?|Every|Each|All)\b", first)
    return ask(first, plain(chunk.content), fact.heading) if is_sentence else []


def _about_label(fact: _Fact, chunk: SourceChunk, language: Language) -> list[Question]:
    """ "Opening hours: 9 to 5" -> what the section says about opening hours."""
    labelled = _LABEL.fullmatch(fact.said)
    marked = _MARKED.match(chunk.content, fact.start, fact.end)
    heading = fact.heading
    if marked and not labelled and heading and language.code == ENGLISH:
        found = [Question(f'What does "{quotable(heading)}" say about {plain(marked[0])}?', 0.65)]
        return [question for question in found if is_well_put(question.text)]
    if labelled is None or len(words(labelled["label"])) > 6 or _NOT_A_LABEL.match(fact.said):
        return []
    label = labelled["label"].strip()
    if language.code != ENGLISH:
        return [Question(language.ask_about(label, heading), 0.7)]
    found = [Question(f'What does "{quotable(heading)}" say about {label}?', 0.7)] if heading else []
    if re.match(r"(?:an?|the)\s", labelled["value"], re.I) and len(label.split()) <= 4:
        found.insert(0, Question(f"What is {label}?", 0.8))
    return [question for question in found if is_well_put(question.text)]
