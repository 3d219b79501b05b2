"""How many rows of a batch our trainer passes through the model at once."""

from __future__ import annotations

MICRO_BATCH_TOKENS = 16_384  # of one forward and backward pass


def rows_at_once(batch_size: int, longest_row_tokens: int, *, least: int = 1, most: int | None = None) -> int:
    """How many rows pass at once: the largest divisor of the batch size that keeps to MICRO_BATCH_TOKENS.

    At least `least`, if the batch has so many, even where that is more; never more than `most`.
    """
    divisors = [rows for rows in range(1, batch_size + 1) if batch_size % rows == 0 and rows >= least]
    divisors = [rows for rows in divisors if most is None or rows <= most]
    fitting = [rows for rows in divisors if rows * longest_row_tokens <= MICRO_BATCH_TOKENS]
    return max(fitting, default=min(divisors, default=batch_size))


def fewer_rows_at_once(batch_size: int, rows: int, *, least: int = 1) -> int | None:
    """The largest divisor of the batch size up to half of `rows`; None: none is left."""
    divisors = [fewer for fewer in range(least, rows // 2 + 1) if batch_size % fewer == 0]
    return max(divisors, default=None)
