"""How a run trains: the methods, and every setting that a user may make.

The schema is closed: an unknown name is refused, and each value has its range. None means automatic; what
that is for a base model and a method, and why, stands in `catalog`.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

# full: all weights. lora: low-rank adapters beside frozen weights. qlora: the same beside weights in 4 bits.
# dpo, orpo, kto: adapters that learn which answers are preferred; the frozen weights below them are the
# reference, so no second copy is held. embedding: all weights of a model that maps texts to vectors.
Method = Literal["full", "lora", "qlora", "dpo", "orpo", "kto", "embedding"]
METHODS: frozenset[Method] = frozenset(get_args(Method))
SUPERVISED: frozenset[Method] = frozenset({"full", "lora", "qlora"})
PREFERENCE: frozenset[Method] = frozenset({"dpo", "orpo", "kto"})
ADAPTERS: frozenset[Method] = PREFERENCE | {"lora", "qlora"}  # methods that train adapters only

# trl: TRL itself. unsloth, axolotl: their own kernels and images; what each can do stands in `engines`.
Engine = Literal["trl", "unsloth", "axolotl"]

LrScheduler = Literal[
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
]

# The last part of a module's name, as in model.layers.0.self_attn.q_proj: a plain word, never a pattern.
ModuleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=60)]


class Record(BaseModel):
    """A value that was validated once and does not change afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class TrainingConfig(Record):
    """What a user may set. None means: chosen by `catalog.resolve` for this base and method."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)  # clients send camelCase

    engine: Engine = Field(
        default="trl",
        description="What trains. Rows, mask, reports and checkpoints are the same with each.",
    )
    epochs: int = Field(
        default=3, ge=1, le=50, description="Times over the rows. 3 is usual; more for few rows."
    )
    batch_size: int | None = Field(
        default=None,
        ge=1,
        le=512,
        description="Rows an optimiser step, however many of them fit into memory at a time.",
    )
    learning_rate: float | None = Field(default=None, gt=0, le=1, description="Of AdamW, after warm-up.")
    learning_rate_multiplier: float = Field(
        default=1.0,
        gt=0,
        le=100,
        description="Scales the automatic learning rate; ignored beside an explicit one.",
    )
    lr_scheduler: LrScheduler | None = Field(
        default=None, description="How the rate falls after warm-up; constant: there is no warm-up."
    )
    warmup_ratio: float | None = Field(
        default=None, ge=0, le=0.5, description="Share of all steps in which the rate rises from 0."
    )
    weight_decay: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Of AdamW, a step. 0: a few epochs move weights too little for it to matter.",
    )
    max_length: int | None = Field(
        default=None,
        ge=16,
        le=131_072,
        description="Tokens a row, or a text of an embedding. A longer one is left out and named, never cut.",
    )
    packing: bool | None = Field(
        default=None,
        description="Supervised methods: short rows of a batch share a line of the tensor, isolated from one"
        " another. It changes how fast a step is, not what it learns.",
    )
    lora_r: int = Field(
        default=16, ge=1, le=256, description="Rank of the adapters: how much they can hold. 16 is usual."
    )
    lora_alpha: int = Field(
        default=32, ge=1, le=1024, description="Adapters count alpha / r times: 2, so r can change alone."
    )
    lora_dropout: float = Field(
        default=0.05,
        ge=0,
        le=0.9,
        description="Share of what adapters read that is dropped in training, against learning rows by heart."
        " 0.05 is usual; the preference methods drop none.",
    )
    target_modules: (
        Literal["all-linear"] | Annotated[tuple[ModuleName, ...], Field(min_length=1, max_length=40)]
    ) = Field(
        default="all-linear",
        description="Layers that get adapters: all linear ones but the output, or these names, such as"
        " q_proj. All of them learn as well as full fine-tuning does (QLoRA, Dettmers et al. 2023).",
    )
    beta: float = Field(
        default=0.1,
        gt=0,
        le=5,
        description="dpo, kto: how closely the model is held to what it was. orpo: weight of the odds ratio"
        " beside the likelihood. 0.1 in each of the three papers.",
    )
    seed: int = Field(default=42, ge=0, le=2**31 - 1, description="Of the order of rows and of new weights.")
    eval_steps: int | None = Field(
        default=None, ge=1, description="Optimiser steps between two looks at the validation rows, if any."
    )
    save_steps: int | None = Field(default=None, ge=1, description="Optimiser steps between checkpoints.")
    early_stopping_patience: int = Field(
        default=0,
        ge=0,
        le=100,
        description="So many looks in a row without a lower validation loss end the run, and the best weights"
        " are kept. 0: never, and the last ones are kept.",
    )
