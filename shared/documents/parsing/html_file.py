"""An HTML page -> Markdown: what a reader of the page would see. What it hides is handed on as hidden."""

from __future__ import annotations

import re

from selectolax.lexbor import LexborHTMLParser, LexborNode

from shared.documents.parsing.limits import Refusal
from shared.documents.parsing.writer import Writer

_META_WITHIN = 4096
_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?([\w-]{1,40})", re.I)
_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = frozenset(
    (
        *(
            "address",
            "article",
            "aside",
            "blockquote",
            "body",
            "caption",
            "center",
            "dd",
            "details",
            "dialog",
        ),
        *("div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "header", "hr", "li"),
        *("main", "nav", "ol", "p", "section", "summary", "table", "tbody", "td", "tfoot", "th", "thead"),
        *("tr", "ul"),
    )
)
_NO_TEXT = frozenset(
    (
        *("audio", "canvas", "embed", "iframe", "math", "noframes", "object", "script", "style", "svg"),
        *("title", "video"),
    )
)
_UNSEEN = {"noscript", "template", "datalist"}
_UNSEEN_STYLE = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden|(?:font-size|opacity|max-height|height|width)\s*:\s*0(?:\.0*)?"
    r"(?:px|em|rem|pt|%)?\s*(?:;|!|$)|(?:left|top|text-indent)\s*:\s*-\d{3,}|(?<![\w-])color\s*:\s*transparent",
    re.I,
)


def read_html(content: bytes, writer: Writer) -> None:
    """Raises Refusal for a page whose characters cannot be told, or that shows no text."""
    tree = LexborHTMLParser(_decode(content))
    title = tree.css_first("head title")
    if title is not None and tree.css_first("h1") is None:
        writer.heading(1, title.text())
    if tree.root is not None:
        _Page(writer).read(tree.root)
    if not writer.text():
        raise Refusal(
            "has_no_text", "The page shows no text; a script may load it. Save the page from a browser."
        )


class _Page:
    """Walks with a stack of its own: a page may nest deeper than Python calls."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._words: list[str] = []
        self._lists: list[int | None] = []  # the number of the last item; None where items have bullets
        self._mark: str | None = None  # of the item that has begun
        self._pre = 0

    def read(self, root: LexborNode) -> None:
        stack: list[tuple[LexborNode, bool]] = [(root, False)]
        while stack:
            node, is_left = stack.pop()
            if is_left:
                self._leave(node.tag or "")
            elif self._enter(node):
                stack.append((node, True))
                stack += [(child, False) for child in _children(node)][::-1]
        self._flush()

    def _enter(self, node: LexborNode) -> bool:
        """Whether to read what stands in it."""
        tag = node.tag or ""
        if node.is_text_node:
            text = node.text_content or ""
            self._words.append(text if self._pre else re.sub(r"[ \t\r\n\f]+", " ", text))
        elif tag == "br":
            self._words.append("\n")
        elif is_hidden(node):
            self._writer.hide(_hidden_words(node))
        elif tag == "table" and (rows := _rows(node, self._writer)):
            self._flush()
            self._writer.table(rows)
        elif tag not in _NO_TEXT:
            self._begin(tag, node)
            return True
        return False

    def _begin(self, tag: str, node: LexborNode) -> None:
        if tag in _BLOCKS or tag in _HEADINGS or tag == "pre":
            self._flush()
        if tag in ("ul", "ol"):
            self._lists.append(0 if tag == "ol" else None)
        elif tag == "li":
            self._mark = self._next_mark()
        elif tag == "pre":
            self._pre += 1

    def _leave(self, tag: str) -> None:
        if tag in _HEADINGS:
            self._writer.heading(_HEADINGS[tag], "".join(self._words))
            self._words = []
        elif tag == "pre":
            self._pre -= 1
            self._writer.code("".join(self._words))
            self._words = []
        elif tag in _BLOCKS:
            self._flush()
        if tag in ("ul", "ol") and self._lists:
            self._lists.pop()
        elif tag == "li":
            self._mark = None

    def _next_mark(self) -> str:
        if not self._lists or self._lists[-1] is None:
            return "-"
        self._lists[-1] += 1
        return f"{self._lists[-1]}."

    def _flush(self) -> None:
        text = re.sub(r" *\n *", "\n", re.sub(r" {2,}", " ", "".join(self._words))).strip()
        self._words = []
        if not text:
            return
        if self._mark is not None:
            self._writer.item(text, depth=max(0, len(self._lists) - 1), mark=self._mark)
            self._mark = None
        else:
            self._writer.paragraph(text)


def is_hidden(node: LexborNode) -> bool:
    """Whether a browser shows nothing of it: a comment, or an element that is hidden where it stands."""
    if node.is_comment_node or node.tag in _UNSEEN:
        return True
    if not node.is_element_node:
        return False
    attributes = node.attributes
    return "hidden" in attributes or bool(_UNSEEN_STYLE.search(attributes.get("style") or ""))


def _hidden_words(node: LexborNode) -> str:
    if node.is_comment_node:
        return node.comment_content or ""
    return node.text(separator=" ")


def _children(node: LexborNode) -> list[LexborNode]:
    return list(node.iter(include_text=True))


def _rows(table: LexborNode, writer: Writer) -> list[list[str]]:
    """The cells; none for a table that only lays out the page."""
    if len(table.css("table")) > 1 or len(table.css("pre, h1, h2, h3, li")) > 0:
        return []
    rows = [[cell for cell in row.iter() if cell.tag in ("td", "th")] for row in table.css("tr")]
    if max(map(len, rows), default=0) < 2:
        return []
    caption = table.css_first("caption")
    if caption is not None:
        writer.paragraph(_words(caption, writer))
    return [[_words(cell, writer) for cell in row] for row in rows]


def _words(root: LexborNode, writer: Writer) -> str:
    """What a reader sees of it, on one line."""
    words: list[str] = []
    stack = [root]
    while stack:
        node = stack.pop()
        if node.is_text_node:
            words.append(node.text_content or "")
        elif is_hidden(node):
            writer.hide(_hidden_words(node))
        elif node.tag not in _NO_TEXT:
            if node.tag in _BLOCKS or node.tag == "br":
                words.append(" ")
            stack += _children(node)[::-1]
    return " ".join("".join(words).split())


def _decode(content: bytes) -> str:
    for bom, charset in _BOMS:
        if content.startswith(bom):
            return _decoded(content[len(bom) :], charset)
    try:
        return content.decode()
    except UnicodeDecodeError:
        named = _CHARSET.search(content[:_META_WITHIN])
    charset = named[1].decode() if named else "utf-8"
    # What browsers make of it.
    is_latin = charset.lower() in ("iso-8859-1", "latin1", "us-ascii", "ascii")
    return _decoded(content, "cp1252" if is_latin else charset)


def _decoded(content: bytes, charset: str) -> str:
    try:
        return content.decode(charset)
    except (UnicodeDecodeError, LookupError) as error:
        raise Refusal("not_utf8", f"The page is not {charset}, as it should be. Save it as UTF-8.") from error
