"""LoRA on a Llama of the shape of Llama 3.1 8B, bfloat16, on one GPU: ours, against TRL in three ways.

Weights are random: speed and memory do not ask what they say. Rows are put on lines of 4,096 tokens, steps
hold about 16,000; the first 20 steps warm up, of the others the median counts, and the contestants take
turns. MFU counts 4 operations a weight and token, which is what LoRA needs when nothing is computed twice
(2 forward, 2 back through frozen weights), against the card's dense 16-bit peak by its data sheet.

Without CUDA the same script runs its small form: a small shape, a few steps, and no kernels that need a GPU.
With one, the result is kept in benchmarks/results/, with the versions and the card that it comes from.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.training.contestant import Outcome, Who, Work
from benchmarks.training.runs import device_name, endpoint, run
from benchmarks.training.work import Shape, write_base, write_rows
from shared.training.shapes import shape_of_config
from shared.training.sizing.gpus import CARDS
from shared.training.sizing.memory import gpu_memory

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate")
WANTED_RATIO, WANTED_MFU = 1.5, 0.6


@dataclass(frozen=True)
class Form:
    """How large it all is."""

    shape: Shape
    dtype: str
    contestants: tuple[Who, ...]
    runs: int
    rows: int
    rows_a_step: int
    words: tuple[float, float, int]
    line_tokens: int
    warm_up_steps: int


LARGE = Form(
    # meta-llama/Llama-3.1-8B's config.json.
    Shape(4096, 14336, 32, 32, 8, vocab_size=128_256, context_tokens=8192),
    "bfloat16",
    ("ours", "plain", "flash", "liger"),
    runs=3,
    rows=1_200,
    rows_a_step=24,
    words=(220, 0.7, 900),
    line_tokens=4096,
    warm_up_steps=20,
)
SMALL = Form(
    Shape(64, 128, 2, 4, 2, context_tokens=1024),
    "float32",
    ("ours", "plain", "packed"),
    runs=1,
    rows=48,
    rows_a_step=8,
    words=(20, 0.6, 80),
    line_tokens=512,
    warm_up_steps=2,
)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Tuning on a GPU, against TRL.")
    parser.add_argument("--profile", action="store_true", help="print where the time of ours goes")
    profile = parser.parse_args(arguments).profile
    card = device_name()
    form = LARGE if card else SMALL
    if card is None:
        print("No CUDA here: the small form. FlashAttention and Liger need a GPU.", file=sys.stderr)
    result = compare(form, card, profile=profile)
    print(json.dumps(result))
    if card:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"train-gpu-{card.replace(' ', '-')}.json").write_text(json.dumps(result, indent=2) + "\n")


def compare(form: Form, card: str | None, *, profile: bool = False) -> dict[str, Any]:
    """The result, as all benchmarks print it."""
    outcomes: dict[Who, list[Outcome]] = {who: [] for who in form.contestants}
    with tempfile.TemporaryDirectory() as name, endpoint() as url:
        folder = Path(name)
        base, rows, held_out = folder / "base", folder / "rows.jsonl", folder / "held_out.jsonl"
        write_base(base, form.shape, dtype=form.dtype)
        write_rows(rows, form.rows, words=form.words, seed=1)
        write_rows(held_out, 16, words=form.words, seed=2)
        config = json.loads((base / "config.json").read_text())
        for number in range(form.runs):
            for who, taken in outcomes.items():
                work = Work(
                    who=who, folder=folder, base=base, rows=rows, held_out=held_out, method="lora",
                    learning_rate=1e-4, rows_a_step=form.rows_a_step, max_length=form.line_tokens,
                    warm_up_steps=form.warm_up_steps, report_url=url,
                    profile=profile and who == "ours" and number == 0,
                )  # fmt: skip
                # Matrices this small are not worth sharing out.
                taken.append(run(work) if card else run(work, OMP_NUM_THREADS="1"))
                print(f"{who:6} {taken[-1].model_dump_json()}", file=sys.stderr)
    rate = {
        who: statistics.median(outcome.tokens_per_second for outcome in taken)
        for who, taken in outcomes.items()
    }
    peer = form.contestants[-1] if card is None else "flash"
    shape = shape_of_config(config)
    result: dict[str, Any] = {
        "name": "train-gpu",
        "ours": round(rate["ours"]),
        "peer": round(rate[peer]),
        "peer_name": f"TRL, {peer}",
        "unit": "tokens of rows per second",
        "ratio_to_peer": round(rate["ours"] / rate[peer], 2),
        "tokens_per_second": {who: round(value) for who, value in rate.items()},
        "peak_bytes": {who: max(outcome.peak_bytes for outcome in taken) for who, taken in outcomes.items()},
        "loss": {who: round(taken[-1].loss, 4) for who, taken in outcomes.items()},
        "device": card or "cpu, small form",
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "n": form.runs,
    }
    peak_flops = next(
        (known.flops for name, known in CARDS.items() if card and name.split("-")[0] in card), None
    )
    if card and peak_flops:
        used = {who: 4 * shape.matmul_parameters * value / peak_flops for who, value in rate.items()}
        memory = gpu_memory(
            shape, "lora", lora_r=16, dropout=False, tokens=4 * form.line_tokens, width=form.line_tokens
        )
        result |= {
            "limit": round(peak_flops / (4 * shape.matmul_parameters)),
            "ratio_to_limit": round(used["ours"], 3),
            "mfu": {who: round(share, 3) for who, share in used.items()},
            "estimated_peak_bytes": round(memory.reserved),
        }
        if rate["ours"] < WANTED_RATIO * rate[peer] or used["ours"] < WANTED_MFU:
            print(f"below the wanted {WANTED_RATIO} x or {WANTED_MFU:.0%} of the peak", file=sys.stderr)
    return result


if __name__ == "__main__":
    main()
