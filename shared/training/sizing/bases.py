"""What each known base model takes of a GPU, method by method, for one batch that everybody can picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shared.training.catalog import CATALOG, TINY, BaseModel
from shared.training.config import Method, TrainingConfig
from shared.training.micro_batch import rows_at_once
from shared.training.shapes import ModelShape
from shared.training.sizing.gpus import CARDS
from shared.training.sizing.memory import Memory, gpu_memory

SHOWN: tuple[Method, ...] = ("full", "lora", "qlora")


@dataclass(frozen=True)
class BaseMemory:
    """One base model, and what a card must hold for each method of SHOWN."""

    base: BaseModel
    memory: dict[Method, Memory]

    def as_json(self) -> dict[str, Any]:
        """Bytes part by part, by method."""
        return {
            "id": self.base.id,
            "parameters": self.base.parameters,
            "contextLength": self.base.context_length,
            "license": self.base.license,
            "memoryBytes": {method: round(memory.total) for method, memory in self.memory.items()},
            "memoryParts": {method: memory.as_json() for method, memory in self.memory.items()},
        }

    def smallest_card(self, method: Method) -> str | None:
        """The card with the least memory that holds it and computes in bfloat16; None: no single one does."""
        needed = self.memory[method].total
        fitting = [name for name, card in CARDS.items() if card.has_bfloat16 and needed <= card.memory_bytes]
        return min(fitting, key=lambda name: CARDS[name].memory_bytes, default=None)


def fixed_memory(shape: ModelShape, method: Method) -> float:
    """Bytes that lie there before a token passes: weights, and what the optimiser keeps of them."""
    memory = gpu_memory(shape, method, lora_r=TrainingConfig().lora_r, dropout=False, tokens=1, width=1)
    return memory.weights + memory.adapters + memory.gradients + memory.optimizer


def base_memories(*, batch_size: int = 8, max_length: int = 1024) -> list[BaseMemory]:
    """Every language model of the catalogue but the tiny one, the smallest first: batches of so many rows,
    each as long as it may be, with adapters as the trainer makes them where nothing is set."""
    usual = TrainingConfig()
    rows = rows_at_once(batch_size, max_length)
    bases = sorted(
        (base for base in CATALOG.values() if base.answers and base.id != TINY),
        key=lambda base: base.parameters,
    )
    return [
        BaseMemory(
            base,
            {
                method: gpu_memory(
                    base.shape,
                    method,
                    lora_r=usual.lora_r,
                    dropout=usual.lora_dropout > 0,
                    tokens=rows * max_length,
                    width=max_length,
                    accumulates=rows < batch_size,
                )
                for method in SHOWN
            },
        )
        for base in bases
    ]
