"""Rows of a batch that share a line of the tensor, and know nothing of one another.

The rows of an optimiser step stay the same, so packing changes how fast a step is and not what it learns:
a padded batch of lengths 1000, 300, 300 and 200 has four lines of 1,000 tokens, a packed one has two. Each
row keeps its own positions, from which transformers makes an attention mask of blocks; whether a model heeds
that is tried out before it is relied upon.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from shared.datasets.loss_mask import IGNORED

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Row = dict[str, list[int]]  # input_ids and labels, equally long, two tokens or more
# Of log-probabilities: what rounding alone may change when a row stands beside others.
_LEAK, _ROUNDING_32, _ROUNDING_16 = 1e-3, 1e-3, 0.5


def lay_out(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Which rows share a line, as their indices: the longest first, each on the first line with room."""
    lines: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        line = next((line for line, left in enumerate(room) if lengths[index] <= left), len(lines))
        if line == len(lines):
            lines.append([])
            room.append(capacity)
        lines[line].append(index)
        room[line] -= lengths[index]
    return lines


class Packer:
    """Makes one batch of several rows. Lines are as long as the longest row, or there is one line only."""

    def __init__(self, pad_token_id: int, *, one_line: bool = False) -> None:
        self._pad_token_id = pad_token_id
        self._one_line = one_line  # as kernels for variable lengths want it

    def lines(self, rows: Sequence[Row]) -> list[list[int]]:
        """Which rows share a line, as their indices."""
        lengths = [len(row["input_ids"]) for row in rows]
        return lay_out(lengths, sum(lengths) if self._one_line else max(lengths))

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        """input_ids, labels and position_ids, each (lines, tokens). Without an attention mask.

        What fills the end of a line has position 0 throughout: to the mask each such token is a row. A single
        line has nothing to fill; with it comes where its rows begin, by the names that transformers has.
        """
        import torch

        lines = self.lines(rows)
        width = max(sum(len(rows[index]["input_ids"]) for index in line) for line in lines)
        batch: dict[str, Any] = {
            "input_ids": torch.full((len(lines), width), self._pad_token_id),
            "labels": torch.full((len(lines), width), IGNORED),
            "position_ids": torch.zeros((len(lines), width), dtype=torch.long),
        }
        for number, line in enumerate(lines):
            begin = 0
            for index in line:
                ids, labels = rows[index]["input_ids"], rows[index]["labels"]
                end = begin + len(ids)
                batch["input_ids"][number, begin:end] = torch.tensor(ids)
                batch["labels"][number, begin:end] = torch.tensor(labels)
                batch["position_ids"][number, begin:end] = torch.arange(len(ids))
                begin = end
        return batch | self._bounds([len(rows[index]["input_ids"]) for index in lines[0]])

    def _bounds(self, lengths: list[int]) -> dict[str, Any]:
        import torch

        if not self._one_line:
            return {}
        begins = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
        return {"cu_seq_lens_q": begins, "cu_seq_lens_k": begins} | dict.fromkeys(
            ("max_length_q", "max_length_k"), max(lengths)
        )


def real_tokens(position_ids: torch.Tensor) -> torch.Tensor:
    """How many tokens of a packed batch are not filling: each row has one position 0 and one position 1."""
    return (position_ids > 0).sum() + (position_ids == 1).sum()


def isolates(model: PreTrainedModel, packer: Packer, rows: Sequence[Row]) -> bool:
    """Whether rows that share a line know nothing of one another, tried with two of these on the model.

    A row must be foretold as it is alone, and no other when the one before it reads differently. False with
    fewer than two rows: there is nothing to pack.
    """
    import torch

    if len(rows) < 2:
        return False
    wanted, before = sorted(rows, key=lambda row: len(row["input_ids"]))[:2]  # a longer one stands before
    backwards = {**before, "input_ids": before["input_ids"][::-1]}
    both = {name: before[name] + wanted[name] for name in ("input_ids", "labels")}  # makes a second line
    was_training = model.training
    model.eval()
    with torch.no_grad():
        alone = _foretold(model, packer, [wanted], 0)
        beside = _foretold(model, packer, [before, wanted, both], 1)
        disturbed = _foretold(model, packer, [backwards, wanted, both], 1)
    model.train(was_training)
    rounding = _ROUNDING_32 if model.dtype == torch.float32 else _ROUNDING_16
    return _difference(beside, disturbed) <= _LEAK and _difference(beside, alone) <= rounding


def _foretold(model: PreTrainedModel, packer: Packer, rows: Sequence[Row], wanted: int) -> torch.Tensor:
    """The log-probability of each token of one of the rows but its first."""
    import torch

    lines = packer.lines(rows)
    line = next(number for number, line in enumerate(lines) if wanted in line)
    before = lines[line][: lines[line].index(wanted)]
    begin = sum(len(rows[index]["input_ids"]) for index in before)
    end = begin + len(rows[wanted]["input_ids"])
    batch: dict[str, Any] = {
        name: value.to(model.device) if isinstance(value, torch.Tensor) else value
        for name, value in packer(rows).items()
        if name != "labels"
    }
    output: Any = model(**batch, use_cache=False)
    chances: torch.Tensor = output.logits[line, begin : end - 1].float().log_softmax(-1)
    return chances.gather(-1, batch["input_ids"][line, begin + 1 : end, None])


def _difference(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first - second).abs().max())
