"""A PDF -> Markdown: the lines of its pages, with headings where its bookmarks name them."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

from pypdf import PdfReader
from pypdf.errors import FileNotDecryptedError, LimitReachedError

from shared.documents.parsing.limits import Limits, Refusal, too_large
from shared.documents.parsing.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_BOOKMARKS = 5000
_HEADER_WITHIN = 1024  # bytes; readers allow something before the header


def read_pdf(content: bytes, writer: Writer, limits: Limits) -> None:
    """Raises Refusal for files that are encrypted, hold too many pages, or pictures of text only."""
    if b"%PDF-" not in content[:_HEADER_WITHIN]:
        raise Refusal("unreadable", "The file is no PDF: it does not begin with %PDF-. Is its ending wrong?")
    try:
        _read(PdfReader(BytesIO(content)), writer, limits)
    except FileNotDecryptedError:
        raise _encrypted() from None
    except LimitReachedError:
        raise too_large("A part of the PDF unpacks to far more than its size.") from None


def _read(reader: PdfReader, writer: Writer, limits: Limits) -> None:
    # Many files are encrypted with an empty password, only to forbid printing: anybody may read those.
    if reader.is_encrypted and not reader.decrypt(""):
        raise _encrypted()
    page_count = len(reader.pages)
    if page_count > limits.pages:
        raise too_large(
            f"The PDF has {page_count:,} pages; {limits.pages:,} may be read.",
            pages=page_count,
            limitPages=limits.pages,
        )
    bookmarks = _bookmarks(reader)
    for number, page in enumerate(reader.pages):
        if number >= limits.pages:
            raise too_large(f"The PDF has more than {limits.pages:,} pages.", limitPages=limits.pages)
        _write_page(page.extract_text(), bookmarks.get(number, {}), writer)
    if not writer.text():
        raise Refusal(
            "has_no_text",
            f"The {page_count:,} pages of the PDF hold pictures but no text. Run OCR over it (ocrmypdf does "
            "it without a network) and upload the result.",
            pages=page_count,
        )


def _encrypted() -> Refusal:
    return Refusal("encrypted", "The PDF opens with a password only. Save it without one and upload that.")


def _write_page(text: str, headings: dict[str, int], writer: Writer) -> None:
    lines: list[str] = []
    for line in text.splitlines():
        level = headings.get(_key(line))
        if level or not line.strip():
            writer.paragraph("\n".join(lines))
            lines = []
        if level:
            writer.heading(level, line)
        elif line.strip():
            lines.append(line.rstrip())
    writer.paragraph("\n".join(lines))


def _bookmarks(reader: PdfReader) -> dict[int, dict[str, int]]:
    """{page: {title: level}}; none where the bookmarks are broken, for the text is worth more than they."""
    found: dict[int, dict[str, int]] = {}
    try:
        for index, (level, bookmark) in enumerate(_walk(reader.outline, 1)):
            if index >= _MAX_BOOKMARKS:
                break
            page = reader.get_destination_page_number(bookmark)
            if page is not None and bookmark.title:
                found.setdefault(page, {}).setdefault(_key(str(bookmark.title)), level)
    except LimitReachedError:
        raise
    except Exception:  # whatever pypdf makes of broken bookmarks
        return found
    return found


def _walk(outline: Any, level: int) -> Iterator[tuple[int, Any]]:
    for entry in outline:
        if isinstance(entry, list):
            yield from _walk(entry, level + 1)
        else:
            yield level, entry


def _key(line: str) -> str:
    return " ".join(line.split()).casefold()
