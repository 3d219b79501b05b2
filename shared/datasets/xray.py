"""What supervised training makes of each row: which tokens are learned, only read, or left out, and why.

The mask is the trainer's own (`loss_mask`). Nothing is cut: a row over the limit is left out whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any, Literal

from shared.datasets.base_tokenizer import BaseTokenizer, RowRefused, TokenizedRow
from shared.datasets.examples import Example
from shared.datasets.loss_mask import is_weighed, learned_answers
from shared.datasets.training_rows import Conversation

State = Literal["trained", "masked", "left_out"]


@dataclass(frozen=True)
class Token:
    """One token. text is the part of the rendered row that it covers; of several that share a character
    the first has it and the others are empty."""

    id: int
    text: str
    state: State
    is_special: bool


@dataclass(frozen=True)
class RowXray:
    """One row. A row that is left out has no trained and no masked tokens.

    reason: why the model learns no word of it; None when it does.
    is_refused: the trainer ends the whole run at this row.
    labels: as the trainer has them, and tokens: both empty unless asked for, labels also when left out.
    """

    line: int
    trained_tokens: int = 0
    masked_tokens: int = 0
    left_out_tokens: int = 0
    reason: str | None = None
    is_refused: bool = False
    remarks: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    tokens: tuple[Token, ...] = ()

    @property
    def is_used(self) -> bool:
        """Whether the trainer takes the row."""
        return self.trained_tokens > 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Totals:
    """Over all rows, for one epoch. Tokens of rows that are used, except those left out."""

    rows: int = 0
    used_rows: int = 0
    rows_that_teach: int = 0  # of the used ones: more than their end is learned
    left_out_rows: int = 0  # too long, of weight 0 alone, or not for supervised training
    refused_rows: int = 0
    trained_tokens: int = 0
    masked_tokens: int = 0
    left_out_tokens: int = 0
    longest_row_tokens: int = 0  # of the used rows

    def add(self, row: RowXray) -> None:
        self.rows += 1
        self.used_rows += row.is_used
        self.rows_that_teach += row.is_used and row.reason is None
        self.refused_rows += row.is_refused
        self.left_out_rows += not row.is_used and not row.is_refused
        self.trained_tokens += row.trained_tokens
        self.masked_tokens += row.masked_tokens
        self.left_out_tokens += row.left_out_tokens
        self.longest_row_tokens = max(self.longest_row_tokens, row.trained_tokens + row.masked_tokens)

    @property
    def tokens(self) -> int:
        """Tokens that pass through the model in one epoch, padding not counted."""
        return self.trained_tokens + self.masked_tokens

    @property
    def refusal(self) -> str | None:
        """Why no model should be trained on these rows; None when it can be."""
        if self.rows == 0:
            return "There is no row to train on."
        if self.refused_rows:
            return f"The trainer would stop: it refuses {self.refused_rows} of {self.rows} rows."
        if self.rows_that_teach == 0:
            return "No row trains anything."
        return None

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "tokens": self.tokens}


def xray(
    rows: Iterable[Example | RowXray],
    tokenizer: BaseTokenizer,
    *,
    limit: int,
    rows_in_full: int = 0,
) -> Iterator[RowXray]:
    """Each row in turn; the first `rows_in_full` with their tokens and labels. What is one already is kept.

    limit: of tokens; a row that has more is left out by the trainer, see `loss_mask.limit_tokens`. Raises
    InvalidRequest when the template cannot be run at all.
    """
    remaining = iter(rows)
    for row in islice(remaining, rows_in_full):
        yield row if isinstance(row, RowXray) else xray_row(row, tokenizer, limit=limit)
    for row, seen in tokenizer.measured((row, _conversation(row)) for row in remaining):
        if isinstance(row, RowXray):
            yield row
        else:
            yield _of(row, seen, limit)


def xray_row(row: Example, tokenizer: BaseTokenizer, *, limit: int) -> RowXray:
    """One row with its tokens and labels, of which at most `limit` are trained."""
    conversation = _conversation(row)
    if conversation is None:
        return _of(row, None, limit)
    try:
        seen = tokenizer.row(conversation)
    except RowRefused as refused:
        return _of(row, refused, limit)
    found = _of(row, seen, limit)
    labels = tuple(seen.labels) if found.is_used else ()
    return replace(found, labels=labels, tokens=_tokens(seen, tokenizer, is_used=found.is_used))


def _conversation(row: Example | RowXray) -> Conversation | None:
    """What the template is given; None where it is not asked."""
    if isinstance(row, RowXray) or row.is_preference or row.label is not None:
        return None
    if len(row.messages) < 2 or row.messages[-1].role != "assistant":
        return None
    return Conversation([message.as_dict() for message in row.messages], row.tools)


def _of(row: Example, seen: TokenizedRow | RowRefused | None, limit: int) -> RowXray:
    """What is made of a row that the template made this of; None: it was not asked."""
    if seen is None:
        if row.is_preference or row.label is not None:
            return RowXray(row.line, reason="A preference: supervised training does not use it.")
        return RowXray(row.line, reason="Not a question with an answer last.", is_refused=True)
    if isinstance(seen, RowRefused):
        return RowXray(row.line, reason=f"The chat template refuses it: {seen}.", is_refused=True)
    count, trained = seen.token_count, seen.trained_token_count
    if not trained or count > limit:
        over = f"{count:,} tokens, over the limit of {limit:,}"
        why = over if trained else "Its weights, or its template, leave no answer to train"
        reason = f"{why}: the trainer leaves it out."
        return RowXray(row.line, left_out_tokens=count, reason=reason, remarks=_remarks(row, seen))
    idle = None if seen.has_words else "Of its answer only the end is trained: there is no word in it."
    return RowXray(row.line, trained, count - trained, reason=idle, remarks=_remarks(row, seen))


def _remarks(row: Example, seen: TokenizedRow) -> tuple[str, ...]:
    messages = [message.as_dict() for message in row.messages]
    learned, answers = learned_answers(messages), sum(one.role == "assistant" for one in row.messages)
    trained = f"{len(seen.spans)} of its {answers} answers are trained"
    remarks = {
        f"By their weights {trained}.": is_weighed(messages),
        f"{trained}: the template tells no more of them apart.": (
            len(seen.spans) < len(learned) and not is_weighed(messages)
        ),
        "What follows its last trained answer is left off: nothing learns from it.": (
            bool(learned) and learned[-1] < len(messages) - 1
        ),
        "The template renders its prompt differently with the answer; less of the prompt is read.": (
            seen.is_shifted
        ),
        "The template does not end the answer; the end-of-text token is put behind it.": (not seen.is_closed),
    }
    return tuple(remark for remark, holds in remarks.items() if holds)


def _tokens(seen: TokenizedRow, tokenizer: BaseTokenizer, *, is_used: bool) -> tuple[Token, ...]:
    tokens, shown = [], 0
    trained = {place for begin, end in seen.spans for place in range(begin, end)}
    for index, token_id in enumerate(seen.ids):
        if index < len(seen.offsets):
            begin, end = seen.offsets[index]
            text, shown = seen.text[max(begin, shown) : end], max(end, shown)
        else:
            text = tokenizer.eos_token or ""  # not in the text: the template forgot it
        state: State = "left_out" if not is_used else "trained" if index in trained else "masked"
        tokens.append(Token(token_id, text, state, token_id in tokenizer.special_ids))
    return tuple(tokens)
