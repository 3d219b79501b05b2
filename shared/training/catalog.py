"""Which base models are known, and what 'auto' means for each."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from shared.training.config import ADAPTERS, SUPERVISED, LrScheduler, Method, TrainingConfig
from shared.training.files import MAX_LENGTH_TOKENS
from shared.training.shapes import ModelShape, like, published

TINY = "fineflow/tiny"


@dataclass(frozen=True)
class BaseModel:
    """A base model whose facts are known without loading it; its size stands in shapes.json."""

    id: str
    context_length: int  # tokens
    license: str  # as its model card names it
    description: str

    @property
    def shape(self) -> ModelShape:
        return published()[self.id].shape

    @property
    def parameters(self) -> int:
        return self.shape.parameters

    @property
    def answers(self) -> bool:
        """False: it makes vectors of texts."""
        return self.shape.answers


_KNOWN = (
    BaseModel(
        TINY,
        context_length=1024,
        license="none: built here",
        description="Built on this machine, random weights: proves the pipeline in seconds, knows nothing.",
    ),
    BaseModel("HuggingFaceTB/SmolLM2-135M-Instruct", 8192, "apache-2.0", "Trains on a laptop."),
    BaseModel("HuggingFaceTB/SmolLM2-360M-Instruct", 8192, "apache-2.0", "Trains on a laptop."),
    BaseModel("Qwen/Qwen2.5-0.5B-Instruct", 32_768, "apache-2.0", "Small, many languages."),
    BaseModel("Qwen/Qwen3-0.6B", 32_768, "apache-2.0", "Small, many languages."),
    BaseModel("google/gemma-3-1b-it", 32_768, "gemma", "Small, for text; terms to accept."),
    BaseModel("meta-llama/Llama-3.2-1B-Instruct", 131_072, "llama3.2", "Terms to accept."),
    BaseModel("Qwen/Qwen3-1.7B", 32_768, "apache-2.0", "One card of 24 GB with LoRA."),
    BaseModel("Qwen/Qwen3-4B", 32_768, "apache-2.0", "One card of 24 GB with LoRA."),
    BaseModel("meta-llama/Llama-3.1-8B-Instruct", 131_072, "llama3.1", "Terms to accept."),
    BaseModel("Qwen/Qwen3-8B", 32_768, "apache-2.0", "One card of 48 GB with LoRA."),
    BaseModel("Qwen/Qwen3-14B", 32_768, "apache-2.0", "One card of 80 GB with LoRA."),
    BaseModel("meta-llama/Llama-3.3-70B-Instruct", 131_072, "llama3.3", "Terms to accept; QLoRA on 80 GB."),
    BaseModel("sentence-transformers/all-MiniLM-L6-v2", 512, "apache-2.0", "Embeddings, English."),
    BaseModel("BAAI/bge-small-en-v1.5", 512, "mit", "Embeddings, English."),
    BaseModel("intfloat/multilingual-e5-small", 512, "mit", "Embeddings, 94 languages."),
)
CATALOG: dict[str, BaseModel] = {model.id: model for model in _KNOWN}

# "8B", "0.5B" or "135M" as a word of a name: Llama-3.1-8B-Instruct. Not the 7B of 8x7B, not the A3B of
# 30B-A3B: those are parts of a mixture.
_SIZE = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)([BM])(?![A-Za-z0-9])", re.IGNORECASE)
_UNITS = {"B": 10**9, "M": 10**6}


def shape(base_model: str) -> ModelShape | None:
    """The shape of a model by its name alone: as published, else one of the size that the name tells.

    None: the name tells none.
    """
    if base_model in CATALOG:
        return CATALOG[base_model].shape
    parameters = parameter_count(base_model)
    return like(parameters) if parameters else None


def parameter_count(base_model: str) -> int | None:
    """How many parameters the model has: as the catalogue says, else as its name says; None: unknown."""
    known = CATALOG.get(base_model)
    if known is not None:
        return known.parameters
    size = _SIZE.search(base_model.rpartition("/")[2])
    return round(float(size[1]) * _UNITS[size[2].upper()]) if size else None


# Whose weights nobody else has. gpt2 and gpt-oss are open: they are not meant here.
_OPENAI_ONLY = re.compile(r"^(ft:|gpt-\d|o\d(-|$)|chatgpt-|davinci-002$|babbage-002$)")
_OTHERS_ONLY = re.compile(r"^(claude|gemini)-")
_OPEN_WEIGHTS = frozenset({"local", "modal", "huggingface", "together"})
_OUR_TRAINER = frozenset({"local", "modal", "huggingface"})


def misplaced(base_model: str, provider: str) -> str | None:
    """Why this base model cannot be trained there, and what was meant; None: nothing speaks against it."""
    if provider in _OPEN_WEIGHTS and _OPENAI_ONLY.match(base_model):
        return (
            f"{base_model} is a model of OpenAI, whose weights nobody else has: {provider} cannot train it."
            " Take provider 'openai', or an open model such as Qwen/Qwen3-4B."
        )
    if provider in _OPEN_WEIGHTS | {"openai"} and _OTHERS_ONLY.match(base_model):
        return (
            f"{base_model} cannot be tuned with {provider}: its weights are not public."
            " Take an open model such as Qwen/Qwen3-4B."
        )
    if provider in ("openai", "together") and (base_model == TINY or base_model.startswith("/")):
        return (
            f"{base_model} is not a model that {provider} has. Take provider 'local', or one of its models"
            f" ({'gpt-4.1-mini' if provider == 'openai' else 'Qwen/Qwen3-8B'}, for example)."
        )
    if provider == "openai" and "/" in base_model:
        return (
            f"{base_model} is an open model, which OpenAI does not train. Take provider 'modal',"
            " 'huggingface' or 'local', or set the key of a service with OpenAI's API, with its baseUrl."
        )
    if provider in _OUR_TRAINER - {"local"} and base_model.startswith("/"):
        return f"{base_model} is a path on this machine, which {provider} cannot see. Take a Hub id."
    return None


def unfit(base_model: str, method: Method) -> str | None:
    """Why this method cannot train this base model, and what was meant; None: nothing speaks against it."""
    known = CATALOG.get(base_model)
    if known is None or known.answers or method == "embedding":
        return None
    return (
        f"{base_model} makes vectors of texts and gives no answers, so {method} cannot train it."
        " Take method 'embedding', or a model such as Qwen/Qwen3-4B."
    )


@dataclass(frozen=True)
class Defaults:
    """Values that stand in for None in a TrainingConfig."""

    learning_rate: float
    lr_scheduler: LrScheduler
    batch_size: int
    max_length: int
    warmup_ratio: float


# full: 2e-5 is TRL's own and Stanford Alpaca's for 7 billion parameters.
# lora: adapters are few weights and start at nothing, so they need about ten times that (QLoRA, Dettmers et
# al. 2023, table 9: 2e-4 for 7 and 13 billion parameters). qlora: the same adapters.
# dpo, kto: a model that answers already is moved a little. The papers and TRL's documentation of KTO take
# 5e-7 to 1e-6 for all weights; ten times that for adapters. orpo learns the answers too, from the same rows
# (Hong et al. 2024: 8e-6).
# embedding: the examples of sentence-transformers; each row is compared with the others of its batch, so a
# larger batch teaches more.
_DEFAULTS: dict[Method, Defaults] = {
    "full": Defaults(2e-5, "linear", 8, MAX_LENGTH_TOKENS, 0.03),
    "lora": Defaults(2e-4, "linear", 8, MAX_LENGTH_TOKENS, 0.03),
    "qlora": Defaults(2e-4, "linear", 8, MAX_LENGTH_TOKENS, 0.03),
    "dpo": Defaults(5e-6, "cosine", 8, MAX_LENGTH_TOKENS, 0.1),
    "orpo": Defaults(8e-6, "cosine", 8, MAX_LENGTH_TOKENS, 0.1),
    "kto": Defaults(5e-6, "cosine", 16, MAX_LENGTH_TOKENS, 0.1),  # both kinds of rows should be in a batch
    "embedding": Defaults(2e-5, "linear", 32, 512, 0.1),
}
# Over so many parameters the rate is halved: Alpaca's 1e-5 for 13 billion, QLoRA's 1e-4 for 33 and 65.
_LARGE_PARAMETERS: dict[Method, float] = {"full": 10e9, **dict.fromkeys(ADAPTERS, 20e9)}
# The tiny model starts from noise. Measured on 48 to 100 sentences: batches of 4 learn in as many
# seconds an epoch as batches of 8 and in fewer epochs; with less warm-up some seeds get stuck.
_TINY_DEFAULTS: dict[Method, Defaults] = {
    "full": Defaults(4e-3, "cosine", 4, MAX_LENGTH_TOKENS, 0.1),
    "lora": Defaults(8e-3, "cosine", 4, MAX_LENGTH_TOKENS, 0.1),
    "qlora": Defaults(8e-3, "cosine", 4, MAX_LENGTH_TOKENS, 0.1),
    "dpo": Defaults(2e-3, "cosine", 4, MAX_LENGTH_TOKENS, 0.1),
    "orpo": Defaults(5e-3, "cosine", 4, MAX_LENGTH_TOKENS, 0.1),
    "kto": Defaults(2e-3, "cosine", 8, MAX_LENGTH_TOKENS, 0.1),
    "embedding": Defaults(1e-3, "linear", 16, 512, 0.1),
}


def defaults(base_model: str, method: Method) -> Defaults:
    """What is taken where a config leaves a value open."""
    if base_model == TINY:
        return _TINY_DEFAULTS[method]
    large = (parameter_count(base_model) or 0) > _LARGE_PARAMETERS.get(method, math.inf)
    usual = _DEFAULTS[method]
    return replace(usual, learning_rate=usual.learning_rate / 2) if large else usual


def resolve(config: TrainingConfig, base_model: str, method: Method) -> TrainingConfig:
    """The same configuration with every automatic value filled in."""
    usual = defaults(base_model, method)
    automatic_rate = usual.learning_rate * config.learning_rate_multiplier
    save_steps = config.save_steps or 100
    return config.model_copy(
        update={
            "learning_rate": config.learning_rate or automatic_rate,
            "lr_scheduler": config.lr_scheduler or usual.lr_scheduler,
            "batch_size": config.batch_size or usual.batch_size,
            "max_length": config.max_length or usual.max_length,
            "warmup_ratio": usual.warmup_ratio if config.warmup_ratio is None else config.warmup_ratio,
            "packing": method in SUPERVISED and config.packing is not False,
            "save_steps": save_steps,
            "eval_steps": config.eval_steps or save_steps,  # a look costs about as much as a checkpoint
        }
    )
