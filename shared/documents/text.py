"""The bytes of an uploaded file -> its text. Spans everywhere else count characters of this text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from shared.errors import InvalidRequest, PayloadTooLarge

MAX_DOCUMENT_BYTES = 10 * 2**20
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff")  # UTF-16 and UTF-32


@dataclass(frozen=True)
class Text:
    """What a document says."""

    content: str
    is_markdown: bool


def extract_text(content: bytes, *, name: str, mime_type: str, limit_bytes: int = MAX_DOCUMENT_BYTES) -> Text:
    """The text of a file, unchanged but for a leading byte order mark.

    The ending of the name decides how it is read, else the MIME type. Raises PayloadTooLarge, and
    InvalidRequest with a code that starts with `document_`.
    """
    if len(content) > limit_bytes:
        raise PayloadTooLarge(
            f"{name} has {len(content):,} bytes; a document may have {limit_bytes:,}. Split it.",
            code="document_too_large",
            details={"byteSize": len(content), "limitBytes": limit_bytes},
        )
    text = _reader(name, mime_type)(content)
    if not text.content.strip():
        raise InvalidRequest(f"{name} holds no text.", code="document_empty")
    return text


def _utf8(content: bytes) -> str:
    if content.startswith(_WIDE_BOMS):
        raise InvalidRequest(
            "The file is UTF-16 or UTF-32. Save it as UTF-8.",
            code="document_not_utf8",
            details={"byteOffset": 0},
        )
    # Postgres stores no NUL, and a text that holds one is a binary file.
    nul_at = content.find(b"\0")
    if nul_at >= 0:
        raise InvalidRequest(
            f"The file holds a NUL at byte {nul_at}, so it is not a text.",
            code="document_has_nul",
            details={"byteOffset": nul_at},
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The offset that Python gives does not count the mark it took off.
        offset = error.start + (3 if content.startswith(b"\xef\xbb\xbf") else 0)
        raise InvalidRequest(
            f"The file is not UTF-8: byte {offset} is 0x{content[offset]:02x}. Save it as UTF-8.",
            code="document_not_utf8",
            details={"byteOffset": offset},
        ) from error


def _markdown(content: bytes) -> Text:
    return Text(_utf8(content), is_markdown=True)


def _plain(content: bytes) -> Text:
    return Text(_utf8(content), is_markdown=False)


Reader = Callable[[bytes], Text]
# A new kind of file is a reader and its line in each table.
_BY_SUFFIX: dict[str, Reader] = {".md": _markdown, ".markdown": _markdown, ".txt": _plain, ".text": _plain}
_BY_MIME_TYPE: dict[str, Reader] = {
    "text/markdown": _markdown,
    "text/x-markdown": _markdown,
    "text/plain": _plain,
}


def _reader(name: str, mime_type: str) -> Reader:
    suffix = PurePosixPath(name).suffix.lower()
    reader = _BY_SUFFIX.get(suffix) or _BY_MIME_TYPE.get(mime_type.partition(";")[0].strip().lower())
    if reader is None:
        raise InvalidRequest(
            f"{name} ({mime_type}) cannot be read. Supported are {', '.join(sorted(_BY_SUFFIX))}.",
            code="document_type_unsupported",
            details={"supported": sorted(_BY_SUFFIX)},
        )
    return reader
