"""The bytes of an uploaded file -> its text.

The text of md and txt is the file itself. html, pdf and docx become Markdown in a child process with limits,
so that a hostile file ends that process and nothing else. Spans of chunks point into this text, which is
kept in the chunks alone: they leave out nothing but blanks, and the same file gives the same text again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Any

from shared.confined import command, environment
from shared.documents.parsing.limits import MIB, Limits
from shared.documents.text import Text, decode_utf8
from shared.errors import InvalidRequest, PayloadTooLarge

_KIND_BY_SUFFIX = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".txt": "plain",
    ".text": "plain",
    ".html": "html",
    ".htm": "html",
    ".pdf": "pdf",
    ".docx": "docx",
}
_KIND_BY_MIME_TYPE = {
    "text/markdown": "markdown",
    "text/x-markdown": "markdown",
    "text/plain": "plain",
    "text/html": "html",
    "application/xhtml+xml": "html",
    "application/pdf": "pdf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
}
_MAGIC = {b"%PDF-": ".pdf", b"PK\x03\x04": ".docx"}
_LIMITS = Limits()
# A child takes up to a gigabyte: a hundred uploads at once wait for each other.
_children = asyncio.Semaphore(4)


async def extract_text(content: bytes, *, name: str, mime_type: str, limits: Limits = _LIMITS) -> Text:
    """The text of a file, read as the ending of its name says, else as its MIME type does.

    Ends within limits.wall_seconds of its turn. Raises PayloadTooLarge (document_too_large), and
    InvalidRequest with document_unreadable, _encrypted, _has_no_text, _empty, _not_utf8, _has_nul or
    _type_unsupported.
    """
    kind = _kind(name, mime_type)
    is_parsed = kind in ("html", "pdf", "docx")
    limit_bytes = limits.file_bytes if is_parsed else limits.text_bytes
    if len(content) > limit_bytes:
        raise PayloadTooLarge(
            f"{name} has {len(content):,} bytes; a document of its kind may have {limit_bytes:,}. Split it.",
            code="document_too_large",
            details={"byteSize": len(content), "limitBytes": limit_bytes},
        )
    if not content.strip(b" \t\r\n\f\xef\xbb\xbf"):
        raise InvalidRequest(f"{name} holds no text.", code="document_empty")
    if is_parsed:
        answer = await _parse(kind, content, limits)
        hidden = tuple((place, words) for place, words in answer["hidden"])
        return Text(answer["text"], is_markdown=True, hidden=hidden)
    for magic, suffix in _MAGIC.items():
        if content.startswith(magic):
            raise InvalidRequest(
                f"{name} is no text; it begins like a {suffix}. Name it so.", code="document_unreadable"
            )
    text = Text(decode_utf8(content), is_markdown=kind == "markdown")
    if not text.content.strip():
        raise InvalidRequest(f"{name} holds no text.", code="document_empty")
    return text


def _kind(name: str, mime_type: str) -> str:
    suffix = PurePosixPath(name).suffix.lower()
    kind = _KIND_BY_SUFFIX.get(suffix) or _KIND_BY_MIME_TYPE.get(mime_type.partition(";")[0].strip().lower())
    if kind is None:
        supported = sorted(_KIND_BY_SUFFIX)
        raise InvalidRequest(
            f"{name} ({mime_type}) cannot be read. Supported are {', '.join(supported)}.",
            code="document_type_unsupported",
            details={"supported": supported},
        )
    return kind


async def _parse(kind: str, content: bytes, limits: Limits) -> dict[str, Any]:
    """What the child answered. Raises for what it refused, and when it died or was ended."""
    async with _children:
        output, is_in_time = await _run_child(kind, content, limits)
    if output:
        answer: dict[str, Any] = json.loads(output)
        if "text" in answer:
            return answer
        error = PayloadTooLarge if answer["code"] == "document_too_large" else InvalidRequest
        raise error(answer["message"], code=answer["code"], details=answer["details"])
    reason = (
        "ended the program that read it" if is_in_time else f"took over {limits.wall_seconds:g} s to read"
    )
    raise InvalidRequest(
        f"The file is damaged or too hard to read: it {reason}. Save it again as {kind.upper()}, or as text, "
        "and upload that.",
        code="document_unreadable",
    )


async def _run_child(kind: str, content: bytes, limits: Limits) -> tuple[bytes, bool]:
    """(its whole answer or nothing, whether it ended by itself). It has ended when this returns or raises."""
    child = await asyncio.create_subprocess_exec(
        *command("shared.documents.parsing.child", kind, json.dumps(asdict(limits))),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment(),
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(limits.wall_seconds):
            _, output = await asyncio.gather(_feed(child, content), _read(child, limits))
            is_whole = await child.wait() == 0 and output is not None
            return (output or b"") if is_whole else b"", True
    except TimeoutError:
        return b"", False
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


async def _feed(child: asyncio.subprocess.Process, content: bytes) -> None:
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it ended before it had read all
        child.stdin.write(content)
        await child.stdin.drain()
    child.stdin.close()


async def _read(child: asyncio.subprocess.Process, limits: Limits) -> bytes | None:
    """The whole output; None for more than a child that keeps its limits would answer."""
    assert child.stdout is not None
    output = bytearray()
    while piece := await child.stdout.read(MIB):
        output += piece
        if len(output) > 3 * limits.text_bytes + MIB:
            child.kill()
            return None
    return bytes(output)
