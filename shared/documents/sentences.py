"""Where sentences begin and end, in any script, by punctuation alone."""

from __future__ import annotations

import re
from collections.abc import Iterator

# A terminator, what may close after it, then a blank; or one of a script that sets no blanks.
_CLOSING = "\"'\u201d\u2019\u00bb)\\]*_`"
_STOPS = ".!?\u2026\u061f\u06d4\u0964\u0965\u1362\u0589"
# The look-behind keeps a long row of dots from being tried at each of them.
_END = re.compile(
    f"(?<![{_STOPS}])[{_STOPS}]+[{_CLOSING}]*(?=\\s|$)"
    f"|[\u3002\uff01\uff1f\uff61]+[{_CLOSING}\u300d\u300f\uff09\u3011]*"
)
_NEXT_IS_SMALL = re.compile("\\s+[a-zà-öø-ÿа-яёα-ω,;\u2013\u2014]")
_LAST_WORD = re.compile(r"[\w.]+$")
_ABBREVIATION = re.compile(
    r"e\.g|i\.e|cf|vs|etc|al|mrs?|ms|dr|prof|st|nos?|figs?|eq|sec|ch|vol|pp|approx|ca|est|dept|inc|ltd|co|corp"
    r"|jr|sr|rev|gen|gov|capt|sgt|mt|ave|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|[ap]\.m|u\.s|u\.k"
    r"|z\.b|d\.h|u\.a|bzw|usw|evtl|ggf|inkl|zzgl|nr|str|bspw|vgl|abs|art|p\.ex|env|mme?|sra|uds?|núm|pág",
    re.I,
)
# "am 14. März": a German ordinal, not the end.
_MONTH_FOLLOWS = re.compile(
    r"\s+(Januar|Februar|März|April|Mai|Juni|Juli|August|September|Oktober|November|Dezember)\b"
)
# A line that stands for itself: a label with its value.
_LABELLED = re.compile(r"[^\s:.][^:.\n]{0,40}:[ \t]\S")
_LINE_BREAK = re.compile(r"\r?\n")


def sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The spans of the sentences in text[start:end], without the blanks around them."""
    begin = start
    for stop in sorted({*_stops(text, start, end), *_line_stops(text, start, end), end}):
        span = _trimmed(text, begin, stop)
        if span[0] < span[1]:
            yield span
        begin = stop


def _stops(text: str, start: int, end: int) -> Iterator[int]:
    for mark in _END.finditer(text, start, end):
        if mark.end() == end or not _goes_on(text, mark.start(), mark.end(), end):
            yield mark.end()


def _goes_on(text: str, mark_start: int, mark_end: int, end: int) -> bool:
    """Whether the mark belongs to an abbreviation, an ordinal or an initial."""
    if text[mark_start] != ".":
        return False
    if _NEXT_IS_SMALL.match(text, mark_end, end):
        return True
    word = _LAST_WORD.search(text, max(0, mark_start - 20), mark_start)
    if word is None or mark_end - mark_start > 1:
        return False
    if word[0].isdigit():
        return len(word[0]) <= 2 and _MONTH_FOLLOWS.match(text, mark_end, end) is not None
    is_initial = len(word[0]) == 1 and word[0].isupper() and word[0] != "I"
    return is_initial or _ABBREVIATION.fullmatch(word[0]) is not None


def _line_stops(text: str, start: int, end: int) -> Iterator[int]:
    """Line breaks that end a sentence without a mark: hard breaks, and lists of labels."""
    for newline in _LINE_BREAK.finditer(text, start, end):
        line_start = text.rfind("\n", start, newline.start()) + 1 or start
        hard = text.endswith(("  ", "\\"), line_start, newline.start())
        labels = _LABELLED.match(text, line_start) and _LABELLED.match(text, newline.end(), end)
        if hard or labels:
            yield newline.end()


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    # A quotation repeats its mark at the start of each line.
    while start < end and (text[start].isspace() or text[start] == ">"):
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end
