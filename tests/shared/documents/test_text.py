import pytest

from shared.documents.text import decode_utf8
from shared.errors import InvalidRequest


def test_the_text_is_the_bytes_and_nothing_else() -> None:
    assert decode_utf8(b"# A\r\n\tb \xe2\x82\xac\n") == "# A\r\n\tb €\n"


def test_one_byte_order_mark_is_taken_off() -> None:
    assert decode_utf8(b"\xef\xbb\xbf# A") == "# A"
    assert decode_utf8(b"\xef\xbb\xbf\xef\xbb\xbf# A") == "\ufeff# A"


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
        decode_utf8(content)
    assert (refused.value.code, refused.value.details) == (code, {"byteOffset": offset})
