"""A base model's tokenizer and chat template, behind a process that may be killed."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from shared.datasets.loss_mask import Span, labels_of
from shared.datasets.training_rows import Conversation
from shared.errors import InvalidRequest

START_TIMEOUT_SECONDS = 30.0
ROW_TIMEOUT_SECONDS = 10.0
MAX_ANSWER_BYTES = 400 * 2**20
MAX_DEATHS = 3  # of its process, then it is given up
_READ_BYTES = 1 << 20
_WRITTEN_AHEAD_BYTES = 32_768  # fits into a pipe, so that writing never waits for a process that hangs

T = TypeVar("T")


class RowRefused(Exception):
    """The template or the tokenizer takes no such row; the sentence says why."""


@dataclass(frozen=True)
class TokenizedRow:
    """A row as it would be trained: of its tokens those of `spans` are learned, the others only read.

    ids, text and offsets (where each token stands in the text) are empty unless the row was asked for in
    full. A token that stands nowhere in the text, the end that a template forgot, has no offset: `offsets`
    may be one shorter than `ids`.
    """

    token_count: int
    spans: list[Span]  # in order, none empty; empty list: nothing is learned
    is_shifted: bool  # the template renders the prompt differently when the answer follows
    is_closed: bool  # the template ends the last answer; else the end-of-text token was put behind it
    has_words: bool  # more is learned than where to stop
    ids: list[int] = field(default_factory=list)
    text: str = ""
    offsets: list[tuple[int, int]] = field(default_factory=list)

    @property
    def labels(self) -> list[int]:
        """As the trainer has them."""
        return labels_of(self.ids, self.spans)

    @property
    def trained_token_count(self) -> int:
        """How many of them are learned."""
        return sum(end - begin for begin, end in self.spans)


class BaseTokenizer:
    """Use it as a context manager: `with BaseTokenizer(directory) as tokenizer`.

    directory: holds tokenizer.json and tokenizer_config.json; chat_template.jinja, other templates in
    additional_chat_templates, generation_config.json and config.json are read where they are there. Raises
    InvalidRequest when it cannot be used. Tokens are those of tokenizer.json; the few classes of
    transformers that build their rules in code are not imitated.
    """

    def __init__(self, directory: Path, *, row_timeout_seconds: float = ROW_TIMEOUT_SECONDS) -> None:
        if not (directory / "tokenizer.json").is_file():
            raise InvalidRequest(f"{directory} holds no tokenizer.json.", code="tokenizer_unreadable")
        self._row_timeout_seconds = row_timeout_seconds
        self._command = [sys.executable, "-m", "shared.datasets.tokenizer_child", str(directory.resolve())]
        self._deaths = 0
        self._start()

    def _start(self) -> None:
        self._child = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        )
        self._unread = b""
        try:
            facts = self._read(START_TIMEOUT_SECONDS)
        except RowRefused as refused:
            self.close()
            raise InvalidRequest(
                f"The tokenizer cannot be used: {refused}.", code="tokenizer_unreadable"
            ) from None
        self.eos_id: int | None = facts["eos_id"]
        self.eos_token: str | None = facts["eos_token"]
        self.stop_ids = frozenset(facts["stop_ids"])
        self.special_ids = frozenset(facts["special_ids"])
        self.context_length_tokens: int | None = facts["context_length_tokens"]
        self.has_own_template: bool = facts["has_own_template"]

    @property
    def _is_closed(self) -> bool:
        assert self._child.stdout is not None
        return self._child.stdout.closed

    def _revive(self) -> None:
        """The process is there, another one when it ended. Raises InvalidRequest after too many ends."""
        if self._child.poll() is None:
            return
        self._deaths += 1
        if self._deaths >= MAX_DEATHS:
            raise InvalidRequest(
                f"The chat template used up its time or memory in {MAX_DEATHS} rows.",
                code="template_unusable",
            )
        self.close()
        self._start()

    def row(self, row: Conversation) -> TokenizedRow:
        """The row as the trainer sees it, in full. Raises RowRefused."""
        self._revive()
        self._send(_request(row, in_full=True))
        return _row(self._read(self._row_timeout_seconds))

    def measured(
        self, rows: Iterable[tuple[T, Conversation | None]]
    ) -> Iterator[tuple[T, TokenizedRow | RowRefused | None]]:
        """Each row in turn, without its tokens, beside what it came with; None for a row of None.

        The process has the next rows before it is done with one, so nobody waits.
        """
        waiting: deque[tuple[T, bytes | None]] = deque()
        ahead_bytes = 0
        for mark, row in rows:
            request = None if row is None else _request(row, in_full=False)
            size = len(request or b"")
            while waiting and ahead_bytes + size > _WRITTEN_AHEAD_BYTES:
                ahead_bytes -= len(waiting[0][1] or b"")
                yield self._answered(waiting)
            if not waiting:
                self._revive()
            self._send_or_leave(request)
            waiting.append((mark, request))
            ahead_bytes += size
        while waiting:
            yield self._answered(waiting)

    def _answered(self, waiting: deque[tuple[T, bytes | None]]) -> tuple[T, TokenizedRow | RowRefused | None]:
        mark, request = waiting.popleft()
        if request is None:
            return mark, None
        try:
            if self._is_closed:  # at an earlier row; this one was not answered
                self._revive()
                for again in (request, *(other for _, other in waiting)):
                    self._send_or_leave(again)
            return mark, _row(self._read(self._row_timeout_seconds))
        except RowRefused as refused:
            return mark, refused

    def close(self) -> None:
        """The process has ended."""
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:  # what was still to be written is of no use
                continue

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, request: bytes) -> None:
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(request)
            self._child.stdin.flush()
        except OSError as error:
            raise RowRefused("its process ended") from error

    def _send_or_leave(self, request: bytes | None) -> None:
        """Sent; or left to be sent again by whoever finds that the process has ended."""
        if request is not None and not self._is_closed:
            with contextlib.suppress(RowRefused):
                self._send(request)

    def _read(self, timeout_seconds: float) -> dict[str, Any]:
        """The next answer. A child that is too slow or says too much is killed; the next row gets another."""
        assert self._child.stdout is not None
        until = time.monotonic() + timeout_seconds
        parts = [self._unread]
        size = len(self._unread)
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ)
            while b"\n" not in parts[-1]:
                if not selector.select(max(0.0, until - time.monotonic())):
                    self.close()
                    raise RowRefused(f"it takes longer than {timeout_seconds:g} seconds")
                part = os.read(self._child.stdout.fileno(), _READ_BYTES)
                size += len(part)
                if not part or size > MAX_ANSWER_BYTES:
                    self.close()
                    raise RowRefused("its process ran out of memory or ended")
                parts.append(part)
        line, _, self._unread = b"".join(parts).partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RowRefused(answer["error"].rstrip("."))
        return answer


def _request(row: Conversation, *, in_full: bool) -> bytes:
    return json.dumps({**row._asdict(), "in_full": in_full}).encode() + b"\n"


def _row(answer: dict[str, Any]) -> TokenizedRow:
    offsets = [(begin, end) for begin, end in answer.pop("offsets", [])]
    spans = [(begin, end) for begin, end in answer.pop("spans")]
    return TokenizedRow(**answer, spans=spans, offsets=offsets[: answer["token_count"]])


def _environment() -> dict[str, str]:
    """No secret of the caller reaches the process; the libraries are found where they are found here."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "TOKENIZERS_PARALLELISM": "false",
        "RAYON_NUM_THREADS": "1",
    }
