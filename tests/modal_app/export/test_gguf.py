"""GGUF files, read by llama.cpp and by transformers: neither shares code with what wrote them."""

from __future__ import annotations

import math
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from modal_app.export.gguf_file import QUANTIZATIONS, Quantization
from tests.conftest import Figure
from tests.modal_app import trainers
from tests.modal_app.export.conftest import TAUGHT, Export, stranger
from tests.modal_app.export.llama_cpp import loaded
from tests.modal_app.measures import elsewhere

TEXTS = (
    "Where is the barometer of team 12345?",
    "Größe: 12 µm — it's 3.5°C,\tisn't IT?\r\n\r\n  def f(x):\n\n\treturn x  ",
    "價格是多少? 日本語のテキスト。한국어 ไทย العربية עברית हिन्दी 🐝👩‍👩‍👧",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    " ".join(chr(code) for code in range(33, 256) if chr(code).isprintable()),
)
_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
_WORDS = {**_BYTES, "use_regex": True}
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"


def _split(numbers: str) -> dict[str, Any]:
    pattern = (
        rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{numbers}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


LLAMA_31_ROPE = {
    "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
}  # fmt: skip
STRANGERS: dict[str, tuple[str, list[Any], dict[str, Any]]] = {
    "smollm2": (
        "Llama",
        [{"type": "Digits", "individual_digits": True}, _WORDS],
        {"tie_word_embeddings": True},
    ),
    "llama 3.1": (
        "Llama",
        [_split(r"\p{N}{1,3}"), _BYTES],
        {"rope_parameters": LLAMA_31_ROPE, "head_dim": 64},
    ),
    "qwen2.5": ("Qwen2", [_split(r"\p{N}"), _BYTES], {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3", [_split(r"\p{N}"), _BYTES], {"head_dim": 64}),
}


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_the_taught_answers_come_out_of_the_file(
    taught: Path,
    export: Export,
    libraries: ForkServerContext,
    tmp_path: Path,
    quantization: Quantization,
    figure: Figure,
) -> None:
    file = tmp_path / "model.gguf"
    size_bytes = export(taught, file, quantization)
    by_transformers = elsewhere(libraries, _answers, file, [question for question, _ in TAUGHT])
    with loaded(file) as llama_cpp:
        by_llama_cpp = [llama_cpp.answer(question) for question, _ in TAUGHT]
    expected = [answer for _, answer in TAUGHT]
    agree = [sum(map(str.__eq__, found, expected)) for found in (by_llama_cpp, by_transformers)]
    figure(f"{quantization}: {size_bytes} bytes; right of {len(TAUGHT)}: llama.cpp, transformers {agree}")
    assert by_llama_cpp == by_transformers == expected
    assert file.stat().st_size == size_bytes
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


@pytest.mark.parametrize("name", STRANGERS)
def test_other_architectures_compute_the_same(
    export: Export, libraries: ForkServerContext, tmp_path: Path, name: str, figure: Figure
) -> None:
    """Every logit depends on every tensor, so one that is lost, turned or scaled shows."""
    architecture, cuts, config = STRANGERS[name]
    run_dir, file = tmp_path / "run", tmp_path / "model.gguf"
    elsewhere(libraries, _stranger, run_dir, architecture, cuts, config)
    export(run_dir, file, "f32")
    theirs: list[tuple[list[int], dict[int, float]]] = elsewhere(libraries, _truth, run_dir / "artifact")
    with loaded(file) as llama_cpp:
        compared, furthest = 0, 0.0
        for text, (ids, logprobs) in zip(TEXTS, theirs, strict=True):
            assert llama_cpp.token_ids(text) == ids
            if found := llama_cpp.next_token_logprobs(ids):
                assert next(iter(found)) == next(iter(logprobs))
                furthest = max(furthest, *(abs(found[token] - logprobs[token]) for token in found))
                compared += 1
    figure(f"{name}: log-probabilities after {compared} texts differ by at most {furthest:.5f}")
    assert compared >= 3
    assert furthest < 1e-3


@pytest.mark.parametrize(
    ("architecture", "config", "reason"),
    [
        ("Mistral", {}, "MistralForCausalLM is not written"),
        ("Llama", {"attention_bias": True}, "has model.layers.0.self_attn.k_proj.bias"),
        ("Qwen2", {"use_sliding_window": True, "max_window_layers": 0}, "a sliding window"),
        (
            "Llama",
            {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
            "linear rotary",
        ),
    ],
)
def test_what_would_not_be_the_same_is_refused(
    libraries: ForkServerContext, tmp_path: Path, architecture: str, config: dict[str, Any], reason: str
) -> None:
    elsewhere(libraries, _stranger, tmp_path / "run", architecture, [_WORDS], config)
    message = elsewhere(libraries, _refusal, tmp_path / "run", tmp_path / "model.gguf")
    assert reason in message
    assert "convert_hf_to_gguf.py" in message
    assert not list(tmp_path.glob("model*"))


@pytest.mark.parametrize("cut", [{"type": "Whitespace"}, {**_WORDS, "add_prefix_space": True}])
def test_an_unknown_way_of_cutting_words_is_refused(
    libraries: ForkServerContext, tmp_path: Path, cut: dict[str, Any]
) -> None:
    elsewhere(libraries, _stranger, tmp_path / "run", "Llama", [cut], {})
    assert "cuts text into words" in elsewhere(libraries, _refusal, tmp_path / "run", tmp_path / "model.gguf")


def test_a_run_without_a_finished_model_is_refused(libraries: ForkServerContext, tmp_path: Path) -> None:
    message = elsewhere(libraries, _refusal, tmp_path, tmp_path / "model.gguf")
    assert "There is no finished model" in message


def _stranger(run_dir: Path, architecture: str, cuts: list[Any], config: dict[str, Any]) -> None:
    run_dir.mkdir()
    stranger(run_dir, architecture, cuts, **config)


def _refusal(run_dir: Path, target: Path) -> str:
    from modal_app.export.finished import FinishedModel
    from modal_app.export.gguf_file import write_gguf
    from modal_app.export.refusal import ExportRefused

    try:
        write_gguf(
            FinishedModel.at(run_dir), target, "f16", name="tuned", progress=lambda written, total: None
        )
    except ExportRefused as refused:
        return refused.message
    raise AssertionError("it was written")


def _answers(file: Path, questions: list[str]) -> list[str]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    answers = []
    for question in questions:
        prompt = tokenizer.apply_chat_template(
            trainers.messages((question, ""))[:1], add_generation_prompt=True, return_tensors="pt"
        )
        with torch.no_grad():
            ids = model.generate(
                **prompt, max_new_tokens=96, do_sample=False, eos_token_id=tokenizer.eos_token_id
            )
        answers.append(tokenizer.decode(ids[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))
    return answers


def _truth(artifact: Path) -> list[tuple[list[int], dict[int, float]]]:
    """Of each text its token ids, and how likely every token is after them, the likeliest first."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(artifact, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(artifact)
    found = []
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logprobs = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        order = logprobs.argsort(descending=True).tolist()
        found.append((ids, {token: float(logprobs[token]) for token in order}))
    assert all(math.isfinite(value) for _, one in found for value in one.values())
    return found
