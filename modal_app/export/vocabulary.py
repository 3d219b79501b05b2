"""A byte-level BPE tokenizer in the terms of GGUF."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modal_app.export.architectures import CONVERTER_HINT
from modal_app.export.refusal import ExportRefused

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# llama.cpp knows each way of cutting text into words by a name, and the file says which one is meant.
_WORDS_OF_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_WORDS_OF_QWEN2 = _WORDS_OF_LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_PRE_TOKENIZERS = {
    ("bytes with words",): "gpt-2",
    ("single digits", "bytes with words"): "smollm",
    (_WORDS_OF_LLAMA3, "bytes"): "llama-bpe",
    (_WORDS_OF_QWEN2, "bytes"): "qwen2",
}


@dataclass(frozen=True)
class Vocabulary:
    """What `tokenizer.ggml.*` says: lists as long as the embedding has rows."""

    pre_tokenizer: str
    tokens: list[str]
    control: frozenset[int]  # marks that are never shown
    added: frozenset[int]  # words that are never cut
    unused: frozenset[int]  # rows of the embedding that no token has
    merges: list[str]


def vocabulary_of(tokenizer: PreTrainedTokenizerBase, rows: int) -> Vocabulary:
    """The vocabulary, filled up to the rows of the embedding. Raises ExportRefused."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ExportRefused(f"This tokenizer has no tokenizer.json. {CONVERTER_HINT}")
    written = json.loads(backend.to_str())
    model = written["model"]
    if model["type"] != "BPE" or model.get("byte_fallback"):
        raise ExportRefused(
            f"This tokenizer is no byte-level BPE, the only kind written as GGUF here. {CONVERTER_HINT}"
        )
    if (written["normalizer"] or {}).get("type", "NFC") != "NFC":  # qwen2's, which llama.cpp leaves out
        raise ExportRefused(
            f"This tokenizer changes text before it cuts it, which llama.cpp does not. {CONVERTER_HINT}"
        )
    pre_tokenizer = _pre_tokenizer_name(written["pre_tokenizer"])
    if model.get("ignore_merges") and pre_tokenizer != "llama-bpe":  # where llama.cpp does so too
        raise ExportRefused(
            f"This tokenizer takes whole words before merges, which llama.cpp does not for {pre_tokenizer}."
            f" {CONVERTER_HINT}"
        )
    known = {index: token for token, index in tokenizer.get_vocab().items()}
    if max(known) >= rows:
        raise ExportRefused(
            f"The tokenizer has {max(known) + 1} tokens, the model {rows} embeddings. {CONVERTER_HINT}"
        )
    added = {token["id"]: token["special"] for token in written["added_tokens"]}
    return Vocabulary(
        pre_tokenizer=pre_tokenizer,
        tokens=[known.get(index, f"[PAD{index}]") for index in range(rows)],
        control=frozenset(index for index, is_special in added.items() if is_special),
        added=frozenset(index for index, is_special in added.items() if not is_special),
        unused=frozenset(range(rows)) - known.keys(),
        merges=[merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]],
    )


def _pre_tokenizer_name(given: dict[str, Any] | None) -> str:
    parts = given["pretokenizers"] if given and given["type"] == "Sequence" else [given or {"type": "none"}]
    name = _PRE_TOKENIZERS.get(tuple(_described(part) for part in parts))
    if name is None:
        raise ExportRefused(
            "llama.cpp's name for how this tokenizer cuts text into words is not known here."
            f" {CONVERTER_HINT}"
        )
    return name


def _described(part: dict[str, Any]) -> str:
    match part:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": use_regex}:
            return "bytes with words" if use_regex else "bytes"
        case {"type": "Digits", "individual_digits": True}:
            return "single digits"
        case {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}:
            return str(pattern)
        case _:
            return f"unknown: {part['type']}"
