"""How much of a file is read before it is refused."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one file may hold. A row over a limit is left out with a finding; a file over one is not read."""

    file_bytes: int = 2 * 2**30
    line_bytes: int = 2**20  # of one row, wherever it begins and ends
    depth: int = 32  # brackets within brackets
    keys: int = 1000  # in one row, nested ones included
    messages: int = 1000  # in one row
    row_group_bytes: int = 512 * 2**20  # of Parquet, unpacked: one is in memory at a time
