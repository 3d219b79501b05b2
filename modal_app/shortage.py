"""Out of memory: what was asked for and what there was, in numbers, and one more try with half as much."""

from __future__ import annotations

import gc
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from modal_app import hardware
from modal_app.session.failures import OUT_OF_MEMORY, RunFailed

if TYPE_CHECKING:
    from modal_app.task import Learner


@dataclass(frozen=True)
class Shortage:
    """An attempt that ran out of memory. None: not known, or there was no batch yet."""

    model_bytes: int | None
    peak_bytes: int | None  # that the process held
    total_bytes: int | None  # that it could have held
    rows_at_once: int | None = None
    fewer_rows_at_once: int | None = None  # what may be tried next; None: nothing less is possible
    longest_row_tokens: int | None = None

    @classmethod
    def of(cls, learner: Learner | None) -> Shortage:
        """Measured where it happened. learner: None while the model was loaded."""
        memory = hardware.memory()
        if learner is None:
            return cls(None, memory.peak_bytes, memory.total_bytes)
        return cls(
            learner.model_bytes,
            memory.peak_bytes,
            memory.total_bytes,
            learner.rows_at_once,
            learner.fewer_rows_at_once,
            learner.longest_row_tokens,
        )

    def numbers(self) -> dict[str, Any]:
        """Those that are known, for programs."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def told(self) -> str:
        """Those that are known, for people: a sentence without its full stop."""
        rows = f"{self.rows_at_once} rows at once of up to {self.longest_row_tokens} tokens"
        asked = rows if self.rows_at_once else "the model alone"
        known = [
            f"{_size(value)} {what}"
            for value, what in (
                (self.model_bytes, "of weights"),
                (self.peak_bytes, "used at most"),
                (self.total_bytes, "there in all"),
            )
            if value is not None
        ]
        return f"Out of memory with {asked} ({', '.join(known)})" if known else f"Out of memory with {asked}"

    def failed(self) -> RunFailed:
        """The end of a run that cannot do with less."""
        return RunFailed(
            OUT_OF_MEMORY,
            f"{self.told()}. Lower max_length, use method lora or qlora, take a smaller base model,"
            " or a machine with more memory.",
        )


def give_back() -> None:
    """What nobody refers to any more is free: a trainer is a ring of references, and CUDA keeps blocks."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _size(count_bytes: int) -> str:
    gib = count_bytes / 2**30
    return f"{gib:.1f} GiB" if gib >= 1 else f"{count_bytes / 2**20:.1f} MiB"
