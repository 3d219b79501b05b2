"""Files as Word, browsers and PDF printers write them, and as somebody hostile would."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence

from docx import Document

_FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"


def pdf(pages: Sequence[Sequence[str]], *, bookmarks: Mapping[str, int] | None = None) -> bytes:
    """Each page with its lines; a page without lines holds a picture's worth of nothing."""
    first = 4
    kids = " ".join(f"{first + 2 * number} 0 R" for number in range(len(pages)))
    outline_at = first + 2 * len(pages)
    objects = [
        f"<< /Type /Catalog /Pages 2 0 R{f' /Outlines {outline_at} 0 R' if bookmarks else ''} >>".encode(),
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        _FONT,
    ]
    for number, lines in enumerate(pages):
        shown = "".join(f"({line}) Tj 0 -16 Td " for line in lines)
        stream = f"BT /F1 12 Tf 50 750 Td {shown}ET".encode("latin-1") if lines else b"0 0 m 9 9 l S"
        objects += [
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Resources << /Font << /F1 3 0 R >> >>"
            + f" /Contents {first + 2 * number + 1} 0 R >>".encode(),
            f"<< /Length {len(stream)} >>\nstream\n".encode() + stream + b"\nendstream",
        ]
    for index, (title, page) in enumerate((bookmarks or {}).items()):
        if index == 0:
            last = outline_at + len(bookmarks or {})
            objects.append(f"<< /First {outline_at + 1} 0 R /Last {last} 0 R >>".encode())
        more = f" /Next {outline_at + index + 2} 0 R" if index + 1 < len(bookmarks or {}) else ""
        dest = f"/Dest [{first + 2 * page} 0 R /Fit]"
        objects.append(f"<< /Title ({title}) /Parent {outline_at} 0 R {dest}{more} >>".encode())
    return pdf_of(objects)


def pdf_of(objects: Sequence[bytes]) -> bytes:
    """A file with these objects, numbered from 1; the first is the catalog."""
    out, places = bytearray(b"%PDF-1.7\n"), []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{place:010} 00000 n \n".encode() for place in places)
    out += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n".encode()
    return bytes(out)


def encrypted_pdf(password: str, lines: Sequence[str] = ("secret",)) -> bytes:
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf([lines]))))
    writer.encrypt(user_password=password, owner_password="owner", algorithm="AES-256")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def docx(*blocks: tuple[str, str] | list[list[str]]) -> bytes:
    """(style, text) for a paragraph, rows of cells for a table."""
    document = Document()
    for block in blocks:
        if isinstance(block, tuple):
            document.add_paragraph(block[1], style=block[0])
        else:
            table = document.add_table(rows=len(block), cols=len(block[0]))
            for row, cells in zip(table.rows, block, strict=True):
                for cell, text in zip(row.cells, cells, strict=True):
                    cell.text = text
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def docx_with(body: str) -> bytes:
    """A DOCX whose body is this XML."""
    w = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    return replaced(docx(), f'<w:document xmlns:w="{w}"><w:body>{body}</w:body></w:document>'.encode())


def replaced(content: bytes, document_xml: bytes) -> bytes:
    """The same DOCX with another main part."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            is_main = member.filename == "word/document.xml"
            new.writestr(member.filename, document_xml if is_main else old.read(member))
    return out.getvalue()
