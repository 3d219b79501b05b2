"""The GPUs that are rented out, by their makers' data sheets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """One GPU."""

    memory_bytes: int
    flops: float | None  # dense 16-bit matrix operations a second; None: we have no figure to trust
    bytes_per_second: float  # between its memory and its cores
    has_bfloat16: bool = True  # what our trainer computes in


@dataclass(frozen=True)
class Range:
    """From `low` to `high`, both included."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        """As many times above the low end as below the high one."""
        return float((self.low * self.high) ** 0.5)


# The memory of the A100s, H100, H200 and B200 is that of the SXM boards.
CARDS: dict[str, Card] = {
    "T4": Card(16 * 10**9, 65e12, 320e9, has_bfloat16=False),
    "L4": Card(24 * 10**9, 121e12, 300e9),
    "A10": Card(24 * 10**9, 125e12, 600e9),
    "L40S": Card(48 * 10**9, 362e12, 864e9),
    "A100-40GB": Card(40 * 10**9, 312e12, 1555e9),
    "A100-80GB": Card(80 * 10**9, 312e12, 2039e9),
    "RTX-PRO-6000": Card(96 * 10**9, None, 1792e9),
    "H100": Card(80 * 10**9, 989e12, 3350e9),
    "H200": Card(141 * 10**9, 989e12, 4800e9),
    "B200": Card(180 * 10**9, 2250e12, 8000e9),
}
