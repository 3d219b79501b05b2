"""A hostile file ends its child process, in time; the process that asked goes on."""

import asyncio
import io
import struct
import subprocess
import sys
import time
import zipfile
import zlib

import psutil
import pytest

from shared.documents.extract import extract_text
from shared.documents.parsing.limits import MIB, Limits
from shared.errors import CallerError, InvalidRequest, PayloadTooLarge
from tests.shared.documents.files import docx, docx_with, pdf, pdf_of, replaced


def readers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "parsing.child" in command(child)]


def command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""  # it ended meanwhile


async def refusal(content: bytes, name: str, **limits: float) -> CallerError:
    """How the file was refused, within 20 s, with no child left."""
    start = time.monotonic()
    with pytest.raises(CallerError) as refused:
        await extract_text(content, name=name, mime_type="", limits=Limits(**limits))  # type: ignore[arg-type]
    assert time.monotonic() - start < 20
    assert not readers()
    return refused.value


def entities() -> bytes:
    names = "".join(f'<!ENTITY a{i + 1} "{f"&a{i};" * 10}">' for i in range(9))
    return f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a0 "ha">{names}]><x>&a9;</x>'.encode()


def lying_docx() -> bytes:
    """Its directory says that the main part unpacks to 100 bytes; it is 200 MiB."""
    content = bytearray(replaced(docx(), b" " * (200 * MIB)))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        member = archive.getinfo("word/document.xml")
    content[member.header_offset + 22 : member.header_offset + 26] = struct.pack("<I", 100)
    entry = content.rindex(b"word/document.xml") - 46
    assert content[entry : entry + 4] == b"PK\x01\x02"
    content[entry + 24 : entry + 28] = struct.pack("<I", 100)
    return bytes(content)


def unpacking_pdf(size: int) -> bytes:
    stream = zlib.compress(b"BT /F1 9 Tf (x) Tj ET " * (size // 22), 9)
    return pdf_of(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R"
            b" /Resources << /Font << /F1 5 0 R >> >> >>",
            f"<< /Length {len(stream)} /Filter /FlateDecode >>\nstream\n".encode() + stream + b"\nendstream",
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        ]
    )


def looping_pdf() -> bytes:
    """Its tree of pages holds itself, and claims one page."""
    return pdf_of(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [2 0 R 2 0 R] /Parent 2 0 R /Count 1 >>",
        ]
    )


LAMP = pdf([["It was lit in 1871."] * 40] * 3)
WORD = docx(*(("Normal", f"Paragraph {number}.") for number in range(300)))


@pytest.mark.parametrize(
    ("content", "name", "code"),
    [
        pytest.param(replaced(docx(), b" " * (200 * MIB)), "a.docx", "document_too_large", id="zip bomb"),
        pytest.param(lying_docx(), "a.docx", "document_unreadable", id="zip bomb that lies"),
        pytest.param(replaced(docx(), entities()), "a.docx", "document_unreadable", id="billion laughs"),
        pytest.param(
            replaced(docx(), entities().decode().encode("utf-16")),
            "a.docx",
            "document_unreadable",
            id="billion laughs in UTF-16",
        ),
        pytest.param(
            docx_with("<w:sdt>" * 5000 + "</w:sdt>" * 5000), "a.docx", "document_unreadable", id="deep XML"
        ),
        pytest.param(WORD[: len(WORD) // 2], "a.docx", "document_unreadable", id="half a DOCX"),
        pytest.param(b"PK\x05\x06" + bytes(18), "a.docx", "document_unreadable", id="empty zip"),
        pytest.param(looping_pdf(), "a.pdf", "document_unreadable", id="loop of pages"),
        pytest.param(pdf([["x"]] * 10_000), "a.pdf", "document_too_large", id="10,000 pages"),
        pytest.param(unpacking_pdf(300 * MIB), "a.pdf", "document_too_large", id="PDF that unpacks"),
        pytest.param(b"%PDF-1.7", "a.pdf", "document_unreadable", id="PDF of a header"),
        pytest.param(b"\x89PNG\r\n\x1a\n" * 9, "a.pdf", "document_unreadable", id="picture"),
    ],
)
async def test_hostile_files_are_refused(content: bytes, name: str, code: str) -> None:
    assert (await refusal(content, name)).code == code


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
async def test_a_cut_pdf_gives_its_text_or_a_refusal(share: float) -> None:
    found = await asyncio.gather(
        extract_text(LAMP[: int(len(LAMP) * share)], name="a.pdf", mime_type=""), return_exceptions=True
    )
    if isinstance(found[0], BaseException):
        assert getattr(found[0], "code", None) in ("document_unreadable", "document_has_no_text")
    else:
        assert "1871" in found[0].content


async def test_html_may_nest_deep_and_stay_open() -> None:
    text = await extract_text(b"<div><b>" * 4_000 + b"deep", name="a.html", mime_type="")
    assert text.content == "deep\n"


@pytest.mark.parametrize(
    ("limits", "codes"),
    [
        ({"wall_seconds": 0.05}, {"document_unreadable"}),
        # Too little for Python itself: it says so, or dies before it can, by what it was about to do.
        ({"memory_bytes": 40 * MIB}, {"document_too_large", "document_unreadable"}),
        ({"text_bytes": 1000}, {"document_too_large"}),
        ({"pages": 2}, {"document_too_large"}),
    ],
)
async def test_each_limit_holds(limits: dict[str, float], codes: set[str]) -> None:
    assert (await refusal(LAMP, "a.pdf", **limits)).code in codes


async def test_a_file_that_takes_all_its_seconds_is_ended() -> None:
    busy = unpacking_pdf(60 * MIB)
    assert (await refusal(busy, "a.pdf", cpu_seconds=1)).code == "document_unreadable"
    error = await refusal(busy, "a.pdf", wall_seconds=1)
    assert (error.code, "took over 1 s" in error.message) == ("document_unreadable", True)


async def test_a_file_that_takes_all_its_memory_is_ended() -> None:
    page = b"<p>" + b"<i>x" * (2 * MIB)
    error = await refusal(page, "a.html", memory_bytes=200 * MIB)
    assert error.code in ("document_unreadable", "document_too_large")


async def test_others_go_on_while_hostile_files_are_read() -> None:
    busy, ticks = unpacking_pdf(60 * MIB), 0
    hostile = [asyncio.create_task(refusal(busy, "a.pdf", wall_seconds=1.5)) for _ in range(3)]
    slowest, last = 0.0, time.monotonic()
    while not all(task.done() for task in hostile):
        await asyncio.sleep(0.02)
        slowest, last, ticks = max(slowest, time.monotonic() - last), time.monotonic(), ticks + 1
    for task in hostile:
        assert isinstance(await task, InvalidRequest | PayloadTooLarge)
    assert ticks > 20
    assert slowest < 3  # a parser in this process would hold it for 10 s and more
    assert (await extract_text(b"<p>Still here.", name="a.html", mime_type="")).content == "Still here.\n"


async def test_a_caller_that_leaves_takes_its_child_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET", "canary")
    task = asyncio.create_task(extract_text(unpacking_pdf(60 * MIB), name="a.pdf", mime_type=""))
    while not (found := readers()):
        await asyncio.sleep(0.01)
    assert "SOME_SECRET" not in found[0].environ()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not readers()


@pytest.mark.parametrize(
    "deed",
    ["import socket; socket.create_connection(('127.0.0.1', 9))", "import os; os.system('true')"],
)
def test_a_reader_has_no_network_and_starts_nothing(deed: str) -> None:
    program = f"from shared.documents.parsing.child import Limits, _confine; _confine(Limits()); {deed}"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "PermissionError: a reader of documents may not call" in ended.stderr
