"""The rules for settings, one function each. Every choice names its reason and whose rule it is."""

from __future__ import annotations

import math

from shared.training.advising.model import Choice, Kind, Question
from shared.training.catalog import CATALOG, TINY, defaults
from shared.training.config import ADAPTERS, PREFERENCE, Method, TrainingConfig
from shared.training.files import TrainingFile
from shared.training.shapes import ModelShape
from shared.training.sizing.workload import own_tokens

COOKBOOK = "OpenAI Cookbook, Data preparation for chat model fine-tuning"
CAPACITY = (
    "LoRA Without Regret (Schulman et al. 2025): adapters learn as well as all weights until the data exceed"
    " what they can hold; 2 bits a parameter (Allen-Zhu and Li 2024, arXiv 2404.05405), 1 bit a token"
)
QLORA = "QLoRA (Dettmers et al. 2023, arXiv 2305.14314)"
DPO = "DPO (Rafailov et al. 2023, arXiv 2305.18290)"
ORPO = "ORPO (Hong et al. 2024, arXiv 2403.07691)"
KTO = "KTO (Ethayarajh et al. 2024, arXiv 2402.01306)"
MNRL = "sentence-transformers, MultipleNegativesRankingLoss (Henderson et al. 2017)"
OURS = "FineFlow, docs/training.md"
CATALOGUE = "FineFlow, shared/training/catalog.py"

# The Cookbook's numbers: examples seen over all epochs are kept between these.
_TARGET_EPOCHS, _LEAST_SEEN, _MOST_SEEN, _MOST_EPOCHS = 3, 100, 25_000, 25
_RANKS = (8, 16, 32, 64, 128)
_BITS_A_PARAMETER, _BITS_A_TOKEN = 2, 1
_FEW_ROWS, _MANY_ROWS = 100, 2_000
_LENGTH_STEP, _UNKNOWN_CONTEXT = 128, 8_192


def file_for(method: Method, question: Question) -> TrainingFile | None:
    """The rows that this method learns from; None: there are none."""
    kinds: dict[Method, Kind] = {"dpo": "preference", "orpo": "preference", "kto": "kto"}
    return question.files.get(kinds.get(method, "sft"))


def methods(question: Question) -> list[Choice]:
    """The methods that suit the rows, the best one first. Empty: there are no rows."""
    if question.method is not None:
        return [Choice("method", question.method, "You asked for it.", "you")]
    rows = {kind: file.row_count for kind, file in question.files.items()}
    if question.goal == "search" and "sft" in rows:
        why = f"{rows['sft']:,} questions with the text that answers each: the model learns to find it."
        return [Choice("method", "embedding", why, MNRL)]
    if "sft" in rows and question.base_model == TINY:
        why = "The tiny base is random: beside noise that stays, adapters have nothing to adapt."
        return [Choice("method", "full", why, OURS)]
    if "sft" in rows:
        why = f"{rows['sft']:,} conversations: adapters can hold them, at a fraction of the memory."
        again = "The same adapters over weights in 4 bits, where lora does not fit."
        return [Choice("method", "lora", why, CAPACITY), Choice("method", "qlora", again, QLORA)]
    if "preference" in rows:
        pairs = f"{rows['preference']:,} pairs of a better and a worse answer"
        if question.base_model is not None and _cannot_answer(question.base_model):
            why = f"{pairs}, and a base model that cannot answer yet: it learns both at once."
            return [Choice("method", "orpo", why, ORPO)]
        return [Choice("method", "dpo", f"{pairs}, and a base model that answers already.", DPO)]
    if "kto" in rows:
        return [
            Choice("method", "kto", f"{rows['kto']:,} answers, each marked good or bad, not in pairs.", KTO)
        ]
    return []


def settings(
    method: Method, base_model: str, shape: ModelShape | None, file: TrainingFile
) -> tuple[TrainingConfig, list[Choice]]:
    """What is set for these rows, and why; what is only explained stays automatic."""
    chosen = [epochs(method, file.row_count), batch_size(base_model, method, file.row_count)]
    if length := max_length(method, base_model, file):
        chosen.append(length)
    if method in ADAPTERS:
        chosen += rank(method, shape, file)
    if file.validation is not None and next(c.value for c in chosen if c.name == "epochs") > _TARGET_EPOCHS:
        why = f"{file.validation.row_count:,} rows are held out: the run ends when their loss stops falling."
        chosen.append(Choice("early_stopping_patience", 3, why, OURS))
    config = TrainingConfig.model_validate({choice.name: choice.value for choice in chosen})
    return config, [*chosen, learning_rate(base_model, method)]


def epochs(method: Method, rows: int) -> Choice:
    if method in PREFERENCE:
        return Choice("epochs", 1, "Preferences move a model that answers already: one pass is enough.", OURS)
    if rows * _TARGET_EPOCHS < _LEAST_SEEN:
        many = min(_MOST_EPOCHS, _LEAST_SEEN // rows)
        return Choice(
            "epochs",
            many,
            f"{rows:,} rows are few: until about {_LEAST_SEEN} have been seen in all.",
            COOKBOOK,
        )
    if rows * _TARGET_EPOCHS > _MOST_SEEN:
        few = max(1, _MOST_SEEN // rows)
        return Choice("epochs", few, f"{rows:,} rows are many: more passes would teach little.", COOKBOOK)
    return Choice("epochs", _TARGET_EPOCHS, "The usual number for so many rows.", COOKBOOK)


def batch_size(base_model: str, method: Method, rows: int) -> Choice:
    usual = defaults(base_model, method).batch_size
    if method == "embedding":
        return Choice("batch_size", usual, "Each row is told from the others of its batch.", MNRL)
    if rows < _FEW_ROWS and method != "kto":  # which needs both kinds of rows in a batch
        return Choice("batch_size", min(4, usual), "Few rows: smaller batches give more steps.", OURS)
    if rows >= _MANY_ROWS and base_model != TINY:
        return Choice(
            "batch_size", max(16, usual), "Many rows: a step averages over more of them.", f"{QLORA}, table 9"
        )
    return Choice("batch_size", usual, "The usual number for this method.", CATALOGUE)


def max_length(method: Method, base_model: str, file: TrainingFile) -> Choice | None:
    """None: the rows were not measured one by one, and the automatic limit stays."""
    if not file.row_tokens:
        return None
    lengths = sorted(file.row_tokens)
    nearly_all, longest = lengths[math.ceil(0.99 * len(lengths)) - 1], lengths[-1]
    wanted = longest if longest <= 2 * nearly_all else nearly_all
    context = CATALOG[base_model].context_length if base_model in CATALOG else _UNKNOWN_CONTEXT
    limit = min(_rounded_up(own_tokens(base_model, wanted)), context, 131_072)
    left_out = sum(own_tokens(base_model, tokens) > limit for tokens in lengths)
    longer = (
        f"{left_out:,} of {len(lengths):,} rows may be longer and are left out."
        if left_out
        else "All rows fit."
    )
    why = f"99 of 100 rows have at most {nearly_all:,} tokens, the longest {longest:,}. {longer}"
    return Choice("max_length", limit, why, OURS)


def rank(method: Method, shape: ModelShape | None, file: TrainingFile) -> list[Choice]:
    """The rank of the adapters, and alpha with it."""
    if method in PREFERENCE or shape is None:
        return []
    if file.row_count < _FEW_ROWS:
        rank = _RANKS[0]
        why = f"{file.row_count:,} rows hold little: small adapters learn them, and less by heart."
    else:
        rank = smallest_rank(shape, file.token_count)
        held = shape.adapter_parameters(rank) * _BITS_A_PARAMETER / _BITS_A_TOKEN
        why = f"Adapters of it hold about {_short(held)} tokens; the rows have {_short(file.token_count)}."
    scale = "Adapters count alpha / r = 2 times, as they do where nothing is set."
    return [Choice("lora_r", rank, why, CAPACITY), Choice("lora_alpha", 2 * rank, scale, CATALOGUE)]


def smallest_rank(shape: ModelShape, tokens: int) -> int:
    """The smallest rank, at least 16, whose adapters can hold so many tokens; the largest if none can."""
    for rank in _RANKS[1:]:
        if shape.adapter_parameters(rank) * _BITS_A_PARAMETER >= tokens * _BITS_A_TOKEN:
            return rank
    return _RANKS[-1]


def learning_rate(base_model: str, method: Method) -> Choice:
    rate = defaults(base_model, method).learning_rate
    return Choice("learning_rate", rate, f"Automatic for {method} and this size; nothing is set.", CATALOGUE)


def _cannot_answer(base_model: str) -> bool:
    return base_model == TINY or base_model.lower().endswith("-base")


def _rounded_up(tokens: int) -> int:
    return math.ceil(tokens / _LENGTH_STEP) * _LENGTH_STEP


def _short(count: float) -> str:
    for unit, size in (("billion", 1e9), ("million", 1e6), ("thousand", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f}"
