"""The process that reads one file: bytes on standard input, one JSON object on standard output.

    python -m shared.documents.parsing.child pdf '{"pages": 10, ...}' < paper.pdf

It answers {"text", "hidden"} or {"code", "message", "details"}. What it answers nothing for, it died of.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from shared.confined import confine
from shared.documents.parsing.limits import MIB, Limits, Refusal, too_large
from shared.documents.parsing.writer import Writer


def main() -> None:
    kind, limits = sys.argv[1], Limits(**json.loads(sys.argv[2]))
    _confine(limits)
    answer = _answer(kind, sys.stdin.buffer.read(), limits)
    sys.stdout.buffer.write(json.dumps(answer, ensure_ascii=False).encode())


def _answer(kind: str, content: bytes, limits: Limits) -> dict[str, Any]:
    try:
        writer = Writer(limits)
        _read(kind, content, writer, limits)
        return {"text": writer.text(), "hidden": writer.hidden()}
    except Refusal as refusal:
        return _refused(refusal)
    except MemoryError:
        return _refused(too_large(f"Reading the file takes more than {limits.memory_bytes // MIB} MiB."))
    except Exception as error:  # a library's own, of which there is no list
        reason = f"The file is damaged or no {kind.upper()} at all ({type(error).__name__}). "
        return _refused(Refusal("unreadable", reason + "Open it, save it again, and upload that."))


def _refused(refusal: Refusal) -> dict[str, Any]:
    return {"code": refusal.code, "message": refusal.message, "details": refusal.details}


def _read(kind: str, content: bytes, writer: Writer, limits: Limits) -> None:
    if kind == "pdf":
        from shared.documents.parsing.pdf_file import read_pdf

        read_pdf(content, writer, limits)
    elif kind == "docx":
        from shared.documents.parsing.docx_file import read_docx

        read_docx(content, writer, limits)
    elif kind == "html":
        from shared.documents.parsing.html_file import read_html

        read_html(content, writer)
    else:
        raise ValueError(f"there is no reader for {kind}")


def _confine(limits: Limits) -> None:
    confine(memory_bytes=limits.memory_bytes, cpu_seconds=limits.cpu_seconds)


if __name__ == "__main__":
    main()
