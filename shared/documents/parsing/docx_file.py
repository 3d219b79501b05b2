"""A DOCX -> Markdown: headings, lists and tables as Word's styles name them.

Text deleted under change tracking is gone, inserted text is there. Headers, footers, footnotes and comments
are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO
from typing import Any
from zipfile import ZipFile, ZipInfo

from docx import Document
from docx.oxml.ns import qn

from shared.documents.parsing.limits import MIB, Limits, Refusal, too_large
from shared.documents.parsing.writer import Writer

_OLE = b"\xd0\xcf\x11\xe0"  # how Word kept files before 2007, and keeps encrypted ones
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_SMALL_MEMBER_BYTES = 4 * MIB
_MAX_MEMBERS = 5000
_PIECE_BYTES = 64 * 1024
_DOCTYPE = re.compile(rb"<!\0?D\0?O\0?C\0?T\0?Y\0?P\0?E")
_HEADING = re.compile(r"heading ([1-9])", re.I)
_P, _TBL, _TR, _TC, _R = qn("w:p"), qn("w:tbl"), qn("w:tr"), qn("w:tc"), qn("w:r")
_TEXT, _MATH = qn("w:t"), qn("m:t")
_MARKS = {qn("w:tab"): "\t", qn("w:br"): "\n", qn("w:cr"): "\n", qn("w:noBreakHyphen"): "-"}
# A text box stands in the file twice: Fallback is for programs that do not know the new kind.
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_GONE = {qn("w:del"), qn("w:moveFrom"), qn("w:pPr"), qn("w:rPr"), qn("w:tblPr"), qn("w:sectPr"), _FALLBACK}


def read_docx(content: bytes, writer: Writer, limits: Limits) -> None:
    """Raises Refusal for files that are encrypted, unpack to too much, or hold no text."""
    if content.startswith(_OLE):
        raise _old_or_encrypted(content)
    if not content.startswith(b"PK"):
        raise Refusal("unreadable", "The file is no DOCX: it is no zip archive. Is its ending wrong?")
    with ZipFile(BytesIO(content)) as archive:
        _check_members(archive, limits)
    document = Document(BytesIO(content))
    _Body(document, writer).write(document.element.body)
    if not writer.text():
        raise Refusal(
            "has_no_text",
            "The DOCX holds no text. If it shows some, that is a picture: run OCR over it first.",
        )


def _old_or_encrypted(content: bytes) -> Refusal:
    if _ENCRYPTED in content:
        return Refusal(
            "encrypted", "The DOCX opens with a password only. Save it without one and upload that."
        )
    return Refusal(
        "unreadable", "The file has Word's format of before 2007. Save it as .docx and upload that."
    )


def _check_members(archive: ZipFile, limits: Limits) -> None:
    """Unpacks all, piece by piece, before any parser sees it: the sizes that a zip states may be lies."""
    members = archive.infolist()
    if len(members) > _MAX_MEMBERS:
        raise too_large(f"The DOCX holds {len(members):,} files; {_MAX_MEMBERS:,} may be in it.")
    unpacked = 0
    for member in members:
        if member.flag_bits & 1:
            raise Refusal("encrypted", "A part of the DOCX is encrypted. Save it without a password.")
        unpacked += _check_member(archive, member, limits.unpacked_bytes - unpacked, limits)


def _check_member(archive: ZipFile, member: ZipInfo, left_bytes: int, limits: Limits) -> int:
    most = min(left_bytes, max(_SMALL_MEMBER_BYTES, member.compress_size * limits.unpack_ratio))
    if member.file_size > most:
        raise _bomb(limits)
    is_xml = member.filename.lower().endswith((".xml", ".rels"))
    unpacked, before = 0, b""
    with archive.open(member) as file:
        while piece := file.read(_PIECE_BYTES):
            unpacked += len(piece)
            if unpacked > most:
                raise _bomb(limits)
            if is_xml and _DOCTYPE.search(before + piece):
                raise Refusal("unreadable", "The DOCX declares XML entities, which Word never does.")
            before = piece[-32:]
    return unpacked


def _bomb(limits: Limits) -> Refusal:
    return too_large(
        f"The DOCX unpacks to more than {limits.unpacked_bytes // MIB} MiB, or to more than "
        f"{limits.unpack_ratio} times its size."
    )


class _Body:
    def __init__(self, document: Any, writer: Writer) -> None:
        self._writer = writer
        self._styles = {style.style_id: style for style in document.styles}
        self._numbered = _numbered(document)

    def write(self, parent: Any) -> None:
        """The paragraphs and tables below this element."""
        for element in _nearest(parent, {_P, _TBL}):
            if element.tag == _TBL:
                self._table(element)
            else:
                self._paragraph(element)
                self.write(element)  # text boxes stand inside of a paragraph

    def _paragraph(self, element: Any) -> None:
        text = self._text(element)
        style_id = element.find(f"{qn('w:pPr')}/{qn('w:pStyle')}")
        style = self._styles.get(style_id.get(qn("w:val")) if style_id is not None else None)
        layouts = [element.find(qn("w:pPr"))]
        if style is not None:
            layouts.append(style.element.find(qn("w:pPr")))
        name = (style.name or "") if style is not None else ""
        if level := _heading_level(name, layouts):
            self._writer.heading(level, text)
        elif (numbering := _first(layouts, "w:numPr")) is not None or name.startswith("List "):
            depth = int(_value(numbering, "w:ilvl") or 0)
            is_numbered = name.startswith("List Number") or (
                (_value(numbering, "w:numId"), str(depth)) in self._numbered
            )
            self._writer.item(text, depth=depth, mark="1." if is_numbered else "-")
        else:
            self._writer.paragraph(text)

    def _table(self, element: Any) -> None:
        rows = [list(_nearest(row, {_TC})) for row in _nearest(element, {_TR})]
        if max(map(len, rows), default=0) <= 1:  # a frame around text
            for row in rows:
                for cell in row:
                    self.write(cell)
            return
        self._writer.table([[self._cell(cell) for cell in row] for row in rows])

    def _cell(self, cell: Any) -> str:
        return " ".join(self._text(paragraph) for paragraph in cell.iter(_P))

    def _text(self, paragraph: Any) -> str:
        parts: list[str] = []
        for run in _nearest(paragraph, {_R, _MATH, _P}):
            if run.tag == _MATH:
                parts.append(run.text or "")
            elif run.tag == _R:
                words = "".join(
                    (child.text or "") if child.tag == _TEXT else _MARKS.get(child.tag, "") for child in run
                )
                if _is_hidden(run):
                    self._writer.hide(words)
                else:
                    parts.append(words)
        return "".join(parts)


def _nearest(parent: Any, wanted: set[str]) -> Iterator[Any]:
    """The elements of these tags that stand in no other of them, in reading order."""
    for child in parent:
        if child.tag in wanted:
            yield child
        elif child.tag not in _GONE:
            yield from _nearest(child, wanted)


def _heading_level(name: str, layouts: list[Any]) -> int:
    if name == "Title":
        return 1
    if match := _HEADING.fullmatch(name):
        return int(match[1])
    outline = _first(layouts, "w:outlineLvl")
    level = int(outline.get(qn("w:val"), "9")) if outline is not None else 9
    return level + 1 if level < 9 else 0  # 9 says that it is body text


def _is_hidden(run: Any) -> bool:
    vanish = run.find(f"{qn('w:rPr')}/{qn('w:vanish')}")
    return vanish is not None and vanish.get(qn("w:val"), "1") not in ("0", "false", "off")


def _numbered(document: Any) -> set[tuple[str, str]]:
    """(list, level) of the lists that count rather than show bullets."""
    parts = [rel.target_part for rel in document.part.rels.values() if rel.reltype.endswith("/numbering")]
    if not parts:
        return set()
    root = parts[0].element
    kinds = {
        (abstract.get(qn("w:abstractNumId")), level.get(qn("w:ilvl")))
        for abstract in root.findall(qn("w:abstractNum"))
        for level in abstract.findall(qn("w:lvl"))
        if _value(level, "w:numFmt") not in ("bullet", "none", None)
    }
    lists = {num.get(qn("w:numId")): _value(num, "w:abstractNumId") for num in root.findall(qn("w:num"))}
    return {(num, level) for num, of in lists.items() for abstract, level in kinds if abstract == of}


def _first(layouts: list[Any], tag: str) -> Any:
    found = (layout.find(qn(tag)) for layout in layouts if layout is not None)
    return next((element for element in found if element is not None), None)


def _value(element: Any, tag: str) -> str | None:
    child = element.find(qn(tag)) if element is not None else None
    value: str | None = child.get(qn("w:val")) if child is not None else None
    return value
