"""A document's text, and how the bytes of a text file become one."""

from __future__ import annotations

from dataclasses import dataclass

from shared.errors import InvalidRequest

_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff")  # UTF-16 and UTF-32


@dataclass(frozen=True)
class Text:
    """What a document says. Spans everywhere else count characters of `content`."""

    content: str
    is_markdown: bool
    # (place in content, words that the file keeps from its readers): evidence, never training data
    hidden: tuple[tuple[int, str], ...] = ()


def decode_utf8(content: bytes) -> str:
    """The text, unchanged but for a leading byte order mark. Raises InvalidRequest with the faulty place."""
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
