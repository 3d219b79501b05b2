"""How base models look on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from cli.screen.output import table
from shared.training.sizing.bases import SHOWN, BaseMemory


def bases_table(rows: Sequence[BaseMemory], batch_size: int, max_length: int) -> RenderableType:
    """One line a model: memory of each method in GB, as cards are sold, and the smallest card for lora."""
    shown = (
        (
            row.base.id,
            f"{row.base.parameters / 1e9:.2f} B",
            *(f"{row.memory[method].total / 1e9:.1f} GB" for method in SHOWN),
            row.smallest_card("lora"),
            row.base.license,
        )
        for row in rows
    )
    columns = ("base model", "parameters", *SHOWN, "lora fits on", "license")
    batch = f"Batches of {batch_size} rows of {max_length:,} tokens, adapters of rank 16, one GPU."
    return Group(table(columns, shown, empty="No base models."), Text(batch, style="dim"))
