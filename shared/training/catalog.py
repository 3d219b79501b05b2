"""Which base models are known, and what 'auto' means for each."""

from __future__ import annotations

from dataclasses import dataclass

from shared.training.spec import LrScheduler, Method, TrainingConfig

TINY = "fineflow/tiny"


@dataclass(frozen=True)
class BaseModel:
    """A base model whose facts are known without loading it."""

    id: str
    parameters: int
    context_length: int  # tokens
    description: str


CATALOG: dict[str, BaseModel] = {
    TINY: BaseModel(
        TINY,
        parameters=656_000,
        context_length=1024,
        description="Built on this machine, random weights: proves the pipeline in seconds, knows nothing.",
    ),
}


@dataclass(frozen=True)
class Defaults:
    """Values that stand in for None in a TrainingConfig."""

    learning_rate: float
    lr_scheduler: LrScheduler
    batch_size: int
    max_length: int
    warmup_ratio: float


# LoRA moves few weights and needs a rate about ten times that of full fine-tuning (TRL's own SFT
# default is 2e-5).
_DEFAULTS: dict[Method, Defaults] = {
    "full": Defaults(2e-5, "linear", 8, 1024, 0.03),
    "lora": Defaults(2e-4, "linear", 8, 1024, 0.03),
}
# The tiny model starts from noise. Measured on 48 to 100 sentences: batches of 4 learn in as many
# seconds an epoch as batches of 8 and in fewer epochs; with less warm-up some seeds get stuck.
_TINY_DEFAULTS: dict[Method, Defaults] = {
    "full": Defaults(4e-3, "cosine", 4, 1024, 0.1),
    "lora": Defaults(8e-3, "cosine", 4, 1024, 0.1),
}


def resolve(config: TrainingConfig, base_model: str, method: Method) -> TrainingConfig:
    """The same configuration with every automatic value filled in."""
    defaults = (_TINY_DEFAULTS if base_model == TINY else _DEFAULTS)[method]
    automatic_rate = defaults.learning_rate * config.learning_rate_multiplier
    warmup_ratio = defaults.warmup_ratio if config.warmup_ratio is None else config.warmup_ratio
    return config.model_copy(
        update={
            "learning_rate": config.learning_rate or automatic_rate,
            "lr_scheduler": config.lr_scheduler or defaults.lr_scheduler,
            "batch_size": config.batch_size or defaults.batch_size,
            "max_length": config.max_length or defaults.max_length,
            "warmup_ratio": warmup_ratio,
            "save_steps": config.save_steps or 100,
        }
    )
