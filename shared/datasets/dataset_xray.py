"""What supervised training makes of the pairs of a dataset, for one base model; told, and remembered.

Looked at are the lines of the training file of method 'full', as the trainer would get them, and no others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import fields
from uuid import UUID

import orjson

from shared.datasets.base_tokenizer import BaseTokenizer
from shared.datasets.examples import Example
from shared.datasets.findings import Finding
from shared.datasets.loss_mask import limit_tokens
from shared.datasets.model import Message, Pair
from shared.datasets.store import is_learned, is_trained, training_line
from shared.datasets.xray import RowXray, Totals, xray
from shared.db import Database, Row
from shared.errors import InvalidRequest

_METHOD = "full"  # lora and qlora read the same file


class DatasetXray:
    """Takes the pairs of a dataset page by page, in their order."""

    def __init__(
        self,
        tokenizer: BaseTokenizer,
        max_length_tokens: int,
        *,
        rows_in_full: int = 0,
        pair_ids: Collection[UUID] = (),
    ) -> None:
        """max_length_tokens: as in a job's configuration. In full, with their tokens, are kept the first
        `rows_in_full` rows and those of `pair_ids`."""
        self.totals = Totals()
        self.in_full: list[RowXray] = []
        self.limit_tokens = limit_tokens(max_length_tokens, tokenizer.context_length_tokens)
        self._tokenizer = tokenizer
        self._rows_in_full = rows_in_full
        self._pair_ids = frozenset(pair_ids)
        self._hash = hashlib.sha256()
        self._has_file = True

    @property
    def content_hash(self) -> str | None:
        """SHA-256 of the training file; None when there is none, because a pair cannot be a line of it."""
        return self._hash.hexdigest() if self._has_file else None

    def add(self, pairs: Sequence[tuple[int, Pair]]) -> Iterator[Finding]:
        """What is found in these pairs, each with its place in the dataset, which is the line of a finding.

        Raises InvalidRequest when the template cannot be run at all.
        """
        trained = [(place, pair) for place, pair in pairs if is_learned(pair, _METHOD) and is_trained(pair)]
        first = max(0, self._rows_in_full - self.totals.rows)
        shown = {place for n, (place, pair) in enumerate(trained) if n < first or pair.id in self._pair_ids}
        rows = [self._row(place, pair) for place, pair in trained]
        in_full = [row for row in rows if row.line in shown]
        self.in_full += xray(in_full, self._tokenizer, limit=self.limit_tokens, rows_in_full=len(in_full))
        for row in xray(rows, self._tokenizer, limit=self.limit_tokens):
            self.totals.add(row)
            if (found := _finding(row, self.limit_tokens)) is not None:
                yield found

    def finish(self) -> Iterator[Finding]:
        """What is found in all of them together."""
        if self.totals.rows and not self.totals.rows_that_teach:
            hint = "Raise maxLengthTokens, shorten the rows, or take another base model."
            yield Finding("trains_nothing", "error", "No pair of the dataset trains anything.", hint=hint)

    def _row(self, place: int, pair: Pair) -> Example | RowXray:
        try:
            self._hash.update(training_line(pair, _METHOD))
        except InvalidRequest as refused:
            self._has_file = False
            return RowXray(place, reason=refused.message, is_refused=True)
        return Example(pair.messages, tools=pair.tools, line=place)


def _finding(row: RowXray, limit: int) -> Finding | None:
    if row.reason is None:
        return None
    if row.is_refused:
        hint = "Edit or reject the pair, or take another base model: a run would stop at it."
        return Finding("row_refused", "error", row.reason, line=row.line, hint=hint)
    if row.left_out_tokens > limit:
        hint = "Shorten or split it, or raise maxLengthTokens where the base model has room."
        return Finding("truncated", "warning", row.reason, line=row.line, hint=hint)
    hint = "Fill in the answer, and give one that is to be learned no weight 0."
    return Finding("trains_nothing", "error", row.reason, line=row.line, hint=hint)


def until_it_teaches(content: bytes, tokenizer: BaseTokenizer, max_length_tokens: int) -> Totals:
    """Totals of a training file of messages, up to the first row that teaches something.

    Raises InvalidRequest when the template cannot be run at all.
    """
    limit = limit_tokens(max_length_tokens, tokenizer.context_length_tokens)
    totals = Totals()
    for row in xray(_examples(content), tokenizer, limit=limit):
        totals.add(row)
        if totals.rows_that_teach:
            break
    return totals


def _examples(content: bytes) -> Iterator[Example]:
    for number, line in enumerate(content.splitlines(), start=1):
        row = orjson.loads(line)
        messages = tuple(map(Message.from_dict, row["messages"]))
        yield Example(messages, tools=tuple(row.get("tools", ())), line=number)


async def save_xray(
    db: Database, dataset: Row, base_model: str, max_length_tokens: int, seen: DatasetXray
) -> None:
    """What was seen is found by `fresh_totals` from now on. Nothing is saved where there is no file."""
    if seen.content_hash is None:
        return
    row = {
        "dataset_id": dataset["id"],
        "project_id": dataset["project_id"],
        "base_model": base_model,
        "max_length_tokens": max_length_tokens,
        "content_hash": seen.content_hash,
        "totals": {one.name: getattr(seen.totals, one.name) for one in fields(Totals)},
        "made_at": "now",
    }
    await db.run(db.table("dataset_xrays").upsert(row))


async def fresh_totals(
    db: Database, dataset_id: UUID, content_hash: str, base_model: str, max_length_tokens: int
) -> Totals | None:
    """What was seen in exactly this training file; None when it was not looked at, or has changed since."""
    found = await db.find(
        "dataset_xrays",
        "totals",
        dataset_id=dataset_id,
        base_model=base_model,
        max_length_tokens=max_length_tokens,
        content_hash=content_hash,
    )
    return Totals(**found["totals"]) if found else None
