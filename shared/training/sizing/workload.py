"""What a run passes through the model: how many tokens in all, and how many at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

from shared.training.catalog import TINY, resolve
from shared.training.config import METHODS, SUPERVISED, Method, TrainingConfig
from shared.training.files import TrainingFile
from shared.training.micro_batch import MICRO_BATCH_TOKENS, rows_at_once
from shared.training.sizing.gpus import Range
from shared.training.spec import RunSpec

# What passes at once of a row: a prompt with each of its answers; a question and what answers it.
_TEXTS_A_ROW: dict[Method, int] = dict.fromkeys(METHODS, 1) | {"dpo": 2, "orpo": 2, "embedding": 2}
_LEAST_AT_ONCE: dict[Method, int] = dict.fromkeys(METHODS, 1) | {"kto": 2}
# Rows are counted with o200k_base and without a chat template. Smaller vocabularies need up to a third more
# tokens; a template adds some around each message. The tiny base has two thousand words only.
_OTHER_TOKENIZER, _TINY_TOKENIZER, _TEMPLATE_TOKENS = 1.35, 3.0, 24


@dataclass(frozen=True)
class Workload:
    """One run of a method over the rows of a file."""

    method: Method
    config: TrainingConfig  # resolved
    tokens: int  # of all rows, over all epochs
    steps: int  # of the optimiser
    passes: int  # forward and backward on one GPU: at least one a step
    tokens_at_once: Range  # in the fullest pass
    width: Range  # tokens of the longest line in it
    padding: Range  # tokens that pass for each that is one of a row

    @classmethod
    def of(cls, spec: RunSpec, file: TrainingFile) -> Workload:
        """The run of these rows; what the configuration leaves open is what our trainer would take."""
        method, config = spec.method, resolve(spec.config, spec.root_base_model, spec.method)
        assert config.batch_size
        rows = max(1, file.row_count)
        mean = max(1, file.token_count / rows)
        longest = _longest_row(file, mean, spec, config)
        share = max(1, config.batch_size // spec.gpu_count)  # of a step, for one GPU
        ends = [_at_once(method, config, share, mean, end) for end in (longest.low, longest.high)]
        steps = math.ceil(rows / config.batch_size) * config.epochs
        uneven = min(longest.low / mean, 2.0)  # what padding can cost, were no row near the longest
        return cls(
            method=method,
            config=config,
            tokens=file.token_count * config.epochs,
            steps=steps,
            passes=steps * max(1, share // max(1, ends[1][0])),
            tokens_at_once=Range(min(ends[0][1], ends[1][1]), max(ends[0][1], ends[1][1])),
            width=Range(*(end / _TEXTS_A_ROW[method] for end in (longest.low, longest.high))),
            padding=Range(1.0, 1.15 if config.packing else max(1.15, uneven)),
        )

    @property
    def fullest_passes(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Tokens at once and the width of their longest line: at least, and at most."""
        least, most = (self.tokens_at_once.low, self.width.low), (self.tokens_at_once.high, self.width.high)
        return least, most

    @property
    def accumulates(self) -> bool:
        """Whether gradients lie in memory while the next pass begins."""
        return self.passes > self.steps


def own_tokens(base_model: str, counted: int) -> int:
    """The most tokens that a row may have for the base model itself, of which so many were counted."""
    times = _TINY_TOKENIZER if base_model == TINY else _OTHER_TOKENIZER
    return math.ceil(counted * times + _TEMPLATE_TOKENS)


def _longest_row(file: TrainingFile, mean: float, spec: RunSpec, config: TrainingConfig) -> Range:
    """Tokens of the longest row that is trained: what is known of it, and what it may be at most."""
    assert config.max_length
    limit = config.max_length * _TEXTS_A_ROW[spec.method]
    if file.longest_row_tokens is None:
        return Range(min(mean, limit), limit)
    low = min(file.longest_row_tokens, limit)
    if file.has_exact_tokens:
        return Range(low, low)
    return Range(low, min(limit, own_tokens(spec.root_base_model, low)))


def _at_once(
    method: Method, config: TrainingConfig, share: int, mean: float, longest: float
) -> tuple[int, float]:
    """Rows and tokens of one pass, of `share` rows in all."""
    if method == "embedding":  # compared as one batch, read in parts
        rows = min(share, max(1, int(MICRO_BATCH_TOKENS // longest)))
        return share, rows * longest
    rows = rows_at_once(share, math.ceil(longest), least=_LEAST_AT_ONCE[method])
    lines = math.ceil(rows * mean / longest) if config.packing and method in SUPERVISED else rows
    return rows, min(rows, lines + 1) * longest
