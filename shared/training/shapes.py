"""The shape of a language model: what its config.json says of its size, without a single weight.

Parameters are counted by formula, one a family of architectures, as transformers builds them. The shapes of
well-known models lie in shapes.json, written by hand from their cards; a test holds the formulas to the
counts that their makers publish.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from shared.training.config import Record

Family = Literal["llama", "qwen2", "qwen3", "gemma3_text", "phi3", "mixtral", "qwen3_moe", "bert"]
# Architectures that are built like another one.
_FAMILIES: dict[str, Family] = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma3_text": "gemma3_text",
    "phi3": "phi3",
    "mixtral": "mixtral",
    "qwen3_moe": "qwen3_moe",
    "bert": "bert",
}
_TIED_UNLESS_SAID: frozenset[Family] = frozenset({"gemma3_text", "bert"})
_QUERY_NORMS: frozenset[Family] = frozenset({"qwen3", "qwen3_moe", "gemma3_text"})


@dataclass(frozen=True)
class ModelShape:
    """What decides how many parameters a model has, and what a token costs it."""

    family: Family
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int  # width of the feed-forward layer; of one expert where there are several
    vocabulary: int
    is_tied: bool  # the output layer is the table of embeddings
    experts: int = 1
    experts_per_token: int = 1
    positions: int = 0  # learned ones, which only bert has
    token_types: int = 0  # as before

    @property
    def query(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def key_value(self) -> int:
        """Width of all keys, or of all values, together."""
        return self.kv_heads * self.head_dim

    @property
    def answers(self) -> bool:
        """False: it makes vectors of texts and has no output layer."""
        return self.family != "bert"

    @cached_property
    def linears(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of each linear layer of one block, as adapters and matrix products meet them."""
        h, q, kv, f = self.hidden, self.query, self.key_value, self.intermediate
        if self.family == "phi3":  # two layers of transformers are several of the others
            return ((h, q + 2 * kv), (q, h), (h, 2 * f), (f, h))
        if self.family == "bert":
            return ((h, h), (h, h), (h, h), (h, h), (h, f), (f, h))
        attention = ((h, q), (h, kv), (h, kv), (q, h))
        router = ((h, self.experts),) if self.experts > 1 else ()
        return (*attention, *router, *(((h, f), (h, f), (f, h)) * self.experts))

    @cached_property
    def linear_parameters(self) -> int:
        """Weights of all linear layers but the output: what QLoRA holds in 4 bits."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.linears)

    @property
    def embedding_parameters(self) -> int:
        """Of the table of tokens, which is also the output layer where they are tied."""
        return self.vocabulary * self.hidden

    @property
    def matmul_parameters(self) -> int:
        """Weights that a token is multiplied with: of the experts it meets, and of the output layer."""
        idle = self.experts - self.experts_per_token
        of_idle = self.layers * idle * 3 * self.hidden * self.intermediate
        return self.linear_parameters - of_idle + (self.embedding_parameters if self.answers else 0)

    @cached_property
    def parameters(self) -> int:
        """All of them, each counted once."""
        h = self.hidden
        if self.family == "bert":
            biases = 4 * h + self.intermediate + h
            table = (self.vocabulary + self.positions + self.token_types) * h + 2 * h
            return table + self.linear_parameters + self.layers * (biases + 4 * h) + h * h + h
        norms = (4 if self.family == "gemma3_text" else 2) * h
        norms += 2 * self.head_dim if self.family in _QUERY_NORMS else 0
        biases = self.query + 2 * self.key_value if self.family == "qwen2" else 0
        tables = self.embedding_parameters * (1 if self.is_tied else 2)
        return tables + self.linear_parameters + self.layers * (norms + biases) + h

    @property
    def adapted(self) -> tuple[tuple[int, int], ...]:
        """Of `linears`, those that adapters find: experts are one tensor for transformers, and no layers."""
        return self.linears if self.experts == 1 else self.linears[:4]

    def adapter_parameters(self, rank: int) -> int:
        """Of LoRA on every linear layer of every block."""
        return self.layers * rank * sum(inputs + outputs for inputs, outputs in self.adapted)

    def scaled(self, parameters: int) -> ModelShape:
        """A model of about so many parameters that is built like this one: widths grow, depth stays."""
        ratio = math.sqrt(parameters / self.parameters)

        def wider(width: int) -> int:
            return max(1, round(width * ratio))

        return replace(
            self,
            hidden=wider(self.hidden),
            head_dim=wider(self.head_dim),
            intermediate=wider(self.intermediate),
            vocabulary=wider(self.vocabulary),
        )


class ShapeUnknown(ValueError):
    """A config.json that is none, or of an architecture whose parameters nobody counts here."""


class _Config(BaseModel):
    """What is read of a config.json. Written by strangers: every number has its range."""

    model_type: str = Field(max_length=60)
    hidden_size: int = Field(ge=1, le=65_536)
    num_hidden_layers: int = Field(ge=1, le=1_000)
    num_attention_heads: int = Field(ge=1, le=1_024)
    num_key_value_heads: int | None = Field(default=None, ge=1, le=1_024)
    head_dim: int | None = Field(default=None, ge=1, le=4_096)
    intermediate_size: int = Field(ge=1, le=1_048_576)
    moe_intermediate_size: int | None = Field(default=None, ge=1, le=1_048_576)
    vocab_size: int = Field(ge=1, le=4_194_304)
    tie_word_embeddings: bool | None = None
    num_local_experts: int | None = Field(default=None, ge=1, le=1_024)
    num_experts: int | None = Field(default=None, ge=1, le=1_024)
    num_experts_per_tok: int | None = Field(default=None, ge=1, le=1_024)
    max_position_embeddings: int = Field(default=0, ge=0, le=10_000_000)
    type_vocab_size: int = Field(default=0, ge=0, le=1_024)

    @model_validator(mode="before")
    @classmethod
    def _of_the_language_model(cls, config: Any) -> Any:
        """A model that also sees images keeps its language model one floor below."""
        below = config.get("text_config") if isinstance(config, dict) else None
        return below if isinstance(below, dict) else config


def shape_of_config(config: str | bytes | dict[str, Any]) -> ModelShape:
    """The shape that a config.json tells, as JSON or as its values.

    Raises ShapeUnknown with the field and the rule, or with the architecture.
    """
    try:
        if isinstance(config, dict):
            said = _Config.model_validate(config)
        else:
            said = _Config.model_validate_json(config)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise ShapeUnknown(f"config.json: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    family = _FAMILIES.get(said.model_type)
    if family is None:
        raise ShapeUnknown(f"config.json: parameters of {said.model_type!r} are not counted here")
    is_bert = family == "bert"
    tied = said.tie_word_embeddings
    return ModelShape(
        family=family,
        hidden=said.hidden_size,
        layers=said.num_hidden_layers,
        heads=said.num_attention_heads,
        kv_heads=said.num_key_value_heads or said.num_attention_heads,
        head_dim=said.head_dim or max(1, said.hidden_size // said.num_attention_heads),
        intermediate=said.moe_intermediate_size
        if family == "qwen3_moe" and said.moe_intermediate_size
        else said.intermediate_size,
        vocabulary=said.vocab_size,
        is_tied=family in _TIED_UNLESS_SAID if tied is None else tied,
        experts=said.num_local_experts or said.num_experts or 1,
        experts_per_token=min(said.num_experts_per_tok or 1, said.num_local_experts or said.num_experts or 1),
        positions=said.max_position_embeddings if is_bert else 0,
        token_types=said.type_vocab_size if is_bert else 0,
    )


class PublishedShape(Record):
    """One model of shapes.json."""

    source: str = Field(description="Where its config and its count are published.")
    parameters: int = Field(ge=1, description="As published there, to the digits given.")
    config: dict[str, Any] = Field(description="The fields of its config.json that decide its size.")

    @property
    def shape(self) -> ModelShape:
        return shape_of_config(self.config)


class _Published(Record):
    models: dict[str, PublishedShape]


@lru_cache(maxsize=1)
def published() -> dict[str, PublishedShape]:
    """Every model of shapes.json by its Hub id, the smallest first; read once."""
    content = Path(__file__).with_name("shapes.json").read_bytes()
    models = _Published.model_validate_json(content).models
    return dict(sorted(models.items(), key=lambda item: item[1].shape.parameters))


def like(parameters: int) -> ModelShape:
    """The shape that a language model of so many parameters would have if it were built as the published
    one that is nearest in size: for models of which nothing but the size is known."""
    known = [model.shape for model in published().values() if model.shape.answers]
    nearest = min(known, key=lambda shape: abs(math.log(shape.parameters / parameters)))
    return nearest.scaled(parameters)
