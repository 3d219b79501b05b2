import pytest

from shared.documents.text import extract_text
from shared.errors import FineFlowError, InvalidRequest, PayloadTooLarge


def read(content: bytes, name: str = "a.md", mime_type: str = "text/markdown", **limits: int) -> str:
    return extract_text(content, name=name, mime_type=mime_type, **limits).content


def test_the_text_is_the_bytes_and_nothing_else() -> None:
    assert read(b"# A\r\n\tb \xe2\x82\xac\n") == "# A\r\n\tb €\n"


def test_one_byte_order_mark_is_taken_off() -> None:
    assert read(b"\xef\xbb\xbf# A") == "# A"
    assert read(b"\xef\xbb\xbf\xef\xbb\xbf# A") == "\ufeff# A"


@pytest.mark.parametrize(
    ("name", "mime_type", "is_markdown"),
    [
        ("a.md", "application/octet-stream", True),
        ("A.MARKDOWN", "text/plain", True),
        ("a.txt", "text/markdown", False),
        ("notes", "text/plain; charset=utf-8", False),
        ("notes", "text/markdown", True),
    ],
)
def test_the_ending_decides_else_the_mime_type(name: str, mime_type: str, is_markdown: bool) -> None:
    assert extract_text(b"# A", name=name, mime_type=mime_type).is_markdown is is_markdown


@pytest.mark.parametrize(
    ("content", "code", "offset"),
    [
        (b"caf\xe9", "document_not_utf8", 3),
        (b"\xef\xbb\xbfcaf\xe9", "document_not_utf8", 6),
        (b"a\xed\xa0\x80", "document_not_utf8", 1),  # a lone surrogate
        (b"\xff\xfea\x00", "document_not_utf8", 0),
        (b"ab\x00c", "document_has_nul", 2),
    ],
)
def test_what_is_no_text_is_refused_with_its_place(content: bytes, code: str, offset: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(content)
    assert (refused.value.code, refused.value.details) == (code, {"byteOffset": offset})


@pytest.mark.parametrize(
    ("content", "name", "error", "code"),
    [
        (b" \n\t", "a.md", InvalidRequest, "document_empty"),
        (b"", "a.txt", InvalidRequest, "document_empty"),
        (b"%PDF-1.7", "a.pdf", InvalidRequest, "document_type_unsupported"),
        (b"x" * 101, "a.md", PayloadTooLarge, "document_too_large"),
    ],
)
def test_what_cannot_be_used_says_why(
    content: bytes, name: str, error: type[FineFlowError], code: str
) -> None:
    with pytest.raises(error) as refused:
        read(content, name=name, mime_type="application/pdf", limit_bytes=100)
    assert refused.value.code == code
