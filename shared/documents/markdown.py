"""Where the headings, paragraphs, list items, code and tables of a Markdown text lie.

Not a renderer: it answers which characters are prose, and under which heading. Reads plain text as
well, and never fails: what it does not know is a paragraph.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["heading", "paragraph", "item", "code", "table", "html", "other"]

_FENCE = re.compile(r"\s*(?:[-*+]\s+)?(`{3,}|~{3,})(.*)")
_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+|$)")
_SETEXT = re.compile(r" {0,3}(=+|-{2,})[ \t]*$")
_RULE = re.compile(r"[ \t]*([-*_=~])(?:[ \t]*\1){2,}[ \t]*$")
_ITEM = re.compile(r"\s*(?:[-*+•‣]|\d{1,9}[.)])[ \t]+(?:\[[ xX]\][ \t]+)?(?=\S)")
_QUOTE = re.compile(r"[ \t]{0,3}(?:>[ \t]?)+")
_HTML = re.compile(r"\s*</?[A-Za-z!]")
# Named, because `Map<string>` in a sentence is no markup.
_INLINE_TAG = re.compile(
    r"</?(a|abbr|b|br|code|del|div|em|font|h\d|i|img|kbd|mark|p|s|small|span|strong|sub|sup|u)\b[^<>]*>|<!--.*?-->",
    re.I | re.S,
)
_REFERENCE = re.compile(r"\s*\[[^\]]+\]:\s")
_FRONT_MATTER = re.compile(r"---[ \t]*\r?\n(?:[^\n]*\n){0,60}?---[ \t]*(?:\r?\n|$)")


@dataclass(frozen=True, slots=True)
class Block:
    """text[start:end] without the marker before it or the line break after it."""

    kind: Kind
    start: int
    end: int
    level: int = 0  # 1-6 for a heading, else 0
    indent: int = 0  # columns before the marker of an item


def blocks(text: str) -> list[Block]:
    """The blocks in reading order; blank lines, rules and front matter belong to none."""
    reader = _Reader(text)
    for start, end in _lines(text):
        reader.read(start, end)
    return reader.blocks


class _Reader:
    """Takes line after line; knows what the next one would continue."""

    def __init__(self, text: str) -> None:
        self.blocks: list[Block] = []
        self._text = text
        self._until = ""  # what ends the code or the comment that we are in
        self._is_open = False  # whether the next line may continue the last block

    def read(self, start: int, end: int) -> None:
        line = self._text[start:end]
        if self._until:
            self.blocks[-1] = replace(self.blocks[-1], end=end)
            if self._ends(line):
                self._until = ""
        elif not line.strip() or (_RULE.match(line) and not self._is_heading(line)):
            self._is_open = False
        elif (fence := _FENCE.match(line)) and "`" not in fence[2]:  # else a code span that fills its line
            self._begin("code", start, end, until=fence[1])
        elif line.lstrip().startswith("<!--"):
            self._begin("html", start, end, until="" if "-->" in line else "-->")
        elif self._is_heading(line):
            self.blocks[-1] = replace(self.blocks[-1], kind="heading", level=1 if "=" in line else 2)
            self._is_open = False
        else:
            self._prose(_block(self._text, start, end, self._is_open))

    def _begin(self, kind: Kind, start: int, end: int, until: str) -> None:
        self.blocks.append(Block(kind, start, end))
        self._until = until
        self._is_open = False

    def _ends(self, line: str) -> bool:
        if self._until == "-->":
            return "-->" in line
        return line.strip().startswith(self._until) and not line.strip().strip(self._until[0])

    def _is_heading(self, line: str) -> bool:
        """Whether this is the underline of a paragraph of one line."""
        if not (self._is_open and self.blocks[-1].kind == "paragraph" and _SETEXT.match(line)):
            return False
        return "\n" not in self._text[self.blocks[-1].start : self.blocks[-1].end]

    def _prose(self, block: Block) -> None:
        if self._is_open and block.kind in ("paragraph", "html"):
            self.blocks[-1] = replace(self.blocks[-1], end=block.end)
        else:
            self.blocks.append(block)
        self._is_open = self.blocks[-1].kind in ("paragraph", "item", "html")


def heading_title(text: str, heading: Block) -> str:
    """What a heading says, without marks of emphasis, code and links; at most 200 characters of it."""
    return plain(text[heading.start : min(heading.end, heading.start + 200)].rstrip().rstrip("#"))


def plain(text: str) -> str:
    """The words of a piece of Markdown on one line, as a reader sees them."""
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", " ", text)
    text = re.sub(r"\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])", r"\1", text)
    text = _INLINE_TAG.sub(" ", text)
    text = re.sub(r"(\*{1,3}|~~|`+)(?=\S)(.+?)(?<=\S)\1", r"\2", text, flags=re.S)
    text = re.sub(r"(?<!\w)(_{1,3})(?=\S)(.+?)(?<=\S)\1(?!\w)", r"\2", text, flags=re.S)
    text = re.sub(r"\n[ \t]*(?:>[ \t]?)+", "\n", text)
    return " ".join(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text).split())


def _lines(text: str) -> Iterator[tuple[int, int]]:
    """The spans of the lines, without their breaks. Front matter is no line."""
    front = _FRONT_MATTER.match(text)
    start = front.end() if front else 0
    while start < len(text):
        newline = text.find("\n", start)
        end = len(text) if newline < 0 else newline
        yield start, end - (end > start and text[end - 1] == "\r")
        start = end + 1


def _block(text: str, start: int, end: int, is_open: bool) -> Block:
    """The block that this line begins, or would continue."""
    if quote := _QUOTE.match(text, start, end):
        start = quote.end()
    line = text[start:end]
    if atx := _ATX.match(line):
        return Block("heading", start + atx.end(), end, level=len(atx[1]))
    if line.startswith(("    ", "\t")) and not is_open and not _ITEM.match(line):
        return Block("code", start, end)
    if line.lstrip().startswith("|") or line.count("|") >= 2 or set(line.strip()) <= set("|:+-= "):
        return Block("table", start, end)
    if item := _ITEM.match(line):
        return Block("item", start + item.end(), end, indent=len(line) - len(line.lstrip()))
    if _HTML.match(line):
        return Block("html", start, end)
    if _REFERENCE.match(line):
        return Block("other", start, end)
    return Block("paragraph", start + len(line) - len(line.lstrip()), end)
