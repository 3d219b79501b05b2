"""Memory by the shape: the table for twelve public models, and what is known of a few of them."""

from __future__ import annotations

import pytest

from shared.training.catalog import CATALOG
from shared.training.config import METHODS, Method
from shared.training.shapes import ModelShape
from shared.training.sizing.bases import SHOWN, base_memories
from shared.training.sizing.memory import Memory, cpu_memory, gpu_memory
from tests.conftest import Figure

GB = 1e9
LLAMA_8B = CATALOG["meta-llama/Llama-3.1-8B-Instruct"].shape
LLAMA_70B = CATALOG["meta-llama/Llama-3.3-70B-Instruct"].shape


def on_gpu(
    method: Method,
    *,
    tokens: int = 8192,
    width: int = 1024,
    shape: ModelShape = LLAMA_8B,
    accumulates: bool = False,
) -> Memory:
    return gpu_memory(
        shape, method, lora_r=16, dropout=True, tokens=tokens, width=width, accumulates=accumulates
    )


def test_twelve_public_shapes_keep_their_order(figure: Figure) -> None:
    table = base_memories()
    figure(f"{'8 rows of 1,024 tokens, GB':<38} parameters " + "".join(f"{method:>8}" for method in SHOWN))
    for row in table:
        sizes = "".join(f"{row.memory[method].total / GB:8.1f}" for method in SHOWN)
        figure(f"{row.base.id:<38} {row.base.parameters / GB:8.2f} B {sizes}")
    assert len(table) == 12
    totals = [[row.memory[method].total for method in SHOWN] for row in table]
    assert all(full > lora > qlora for full, lora, qlora in totals)
    for column in zip(*totals, strict=True):
        assert list(column) == sorted(column)


# QLoRA (Dettmers et al. 2023, arXiv 2305.14314), abstract and introduction: a model of 65 billion on one GPU
# of 48 GB, with rows of 512 tokens, one at a time; in 16 bits it takes more than 780 GB. The README of
# torchtune: Llama 3.1 8B with LoRA on one RTX 4090, which has 24 GB, two rows of 2,048 tokens at a time.
def test_what_is_published_of_some_holds() -> None:
    assert on_gpu("qlora", shape=LLAMA_70B, tokens=512, width=512).total < 48 * GB
    assert on_gpu("full", shape=LLAMA_70B, tokens=512, width=512).total > 780 * GB
    assert on_gpu("lora", tokens=4096, width=2048).total < 24 * GB
    assert 20 * GB < on_gpu("lora").total < 48 * GB
    assert on_gpu("full").total > 80 * GB


@pytest.mark.parametrize("method", sorted(METHODS - {"embedding"}))
def test_the_parts_are_those_of_the_trainer(method: Method) -> None:
    memory = on_gpu(method)
    parts = memory.as_json()
    assert sum(parts.values()) == pytest.approx(memory.total, abs=8)
    assert memory.total - memory.reserved == memory.runtime
    trained = LLAMA_8B.parameters if method == "full" else LLAMA_8B.adapter_parameters(16)
    assert (memory.optimizer, memory.gradients) == (8 * trained, 4 * trained)
    assert memory.weights == pytest.approx(
        {"full": 4 * LLAMA_8B.parameters, "qlora": 5.7e9}.get(method, 2 * LLAMA_8B.parameters), rel=0.01
    )
    assert (memory.adapters > 0) == (method != "full")


def test_more_at_once_takes_more() -> None:
    for method in METHODS:
        sizes = [on_gpu(method, tokens=tokens).total for tokens in (1024, 4096, 16_384)]
        assert sizes == sorted(sizes)
        assert sizes[0] < sizes[-1]
        assert on_gpu(method, accumulates=True).total >= on_gpu(method).total
    wide = gpu_memory(LLAMA_8B, "lora", lora_r=256, dropout=False, tokens=1024, width=1024)
    assert wide.optimizer == 16 * on_gpu("lora").optimizer


def test_here_everything_is_kept_in_float32() -> None:
    shape = CATALOG["HuggingFaceTB/SmolLM2-135M-Instruct"].shape
    full, lora, qlora = (
        cpu_memory(shape, method, lora_r=16, dropout=True, tokens=1024, width=512)
        for method in ("full", "lora", "qlora")
    )
    assert full.weights == lora.weights == 4 * shape.parameters > qlora.weights
    assert full.total > lora.total > qlora.total
    assert lora.activations > on_gpu("lora", shape=shape, tokens=1024).activations  # nothing is recomputed
