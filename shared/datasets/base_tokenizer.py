"""A base model's tokenizer and chat template, behind a process that may be killed."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from shared.datasets.loss_mask import MaskedRow, Messages, mask
from shared.errors import InvalidRequest

START_TIMEOUT_SECONDS = 30.0
ROW_TIMEOUT_SECONDS = 10.0
MAX_ANSWER_BYTES = 400 * 2**20
MAX_DEATHS = 3  # of its process, then it is given up
_READ_BYTES = 1 << 20


class RowRefused(Exception):
    """The template or the tokenizer takes no such row; the sentence says why."""


@dataclass(frozen=True)
class TokenizedRow:
    """A row as it would be trained, and where each of its tokens stands in the text.

    text and offsets are empty unless they were asked for. A token that stands nowhere in the text, the end
    that a template forgot, has no offset: `offsets` may be one shorter than `mask.ids`.
    """

    mask: MaskedRow
    text: str
    offsets: list[tuple[int, int]]


class BaseTokenizer:
    """Use it as a context manager: `with BaseTokenizer(directory) as tokenizer`.

    directory: holds tokenizer.json and tokenizer_config.json; chat_template.jinja, generation_config.json
    and config.json are read where they are there. Raises InvalidRequest when it cannot be used. Tokens are
    those of tokenizer.json; the few classes of transformers that build their rules in code are not imitated.
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

    def _restart(self) -> None:
        self._deaths += 1
        if self._deaths >= MAX_DEATHS:
            raise InvalidRequest(
                f"The chat template used up its time or memory in {MAX_DEATHS} rows.",
                code="template_unusable",
            )
        self.close()
        self._start()

    def row(self, messages: Messages, *, with_text: bool = False) -> TokenizedRow:
        """The row as the trainer sees it. Raises RowRefused."""
        if self._child.poll() is not None:
            self._restart()
        request = json.dumps({"messages": messages, "with_text": with_text}).encode() + b"\n"
        answer = self._ask(request)
        row = mask(answer["prompt_ids"], answer["ids"], self.stop_ids, self.eos_id)
        offsets = [(begin, end) for begin, end in answer.get("offsets", [])]
        return TokenizedRow(row, answer.get("text", ""), offsets[: len(row.ids)])

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

    def _ask(self, request: bytes) -> dict[str, Any]:
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(request)
            self._child.stdin.flush()
        except OSError as error:
            raise RowRefused("its process ended") from error
        return self._read(self._row_timeout_seconds)

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


def _environment() -> dict[str, str]:
    """No secret of the caller reaches the process; the libraries are found where they are found here."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "TOKENIZERS_PARALLELISM": "false",
        "RAYON_NUM_THREADS": "1",
    }
