"""What is advised for which dataset: a table of cases, and the rules one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shared.training.advising.advise import advise
from shared.training.advising.model import Advice, Choice, Kind, Question
from shared.training.advising.rules import batch_size, epochs, max_length, smallest_rank
from shared.training.catalog import CATALOG, TINY
from shared.training.config import Method
from shared.training.files import TrainingFile
from shared.training.sizing.calibration import Calibration, Observation
from shared.training.sizing.gpu_run import Known

EVERYWHERE = ("local", "modal", "huggingface")
HOUR = 3600.0


def rows(count: int, tokens: int = 200, *, longest: int | None = None, held_out: int = 0) -> TrainingFile:
    """So many rows of so many tokens; one of them may be longer."""
    lengths = [tokens] * (count - 1) + [longest or tokens]
    validation = rows(held_out) if held_out else None
    return TrainingFile(
        b"", "0" * 64, count, sum(lengths), 4 * sum(lengths), lengths, max(lengths), validation=validation
    )


def ask(files: dict[Kind, TrainingFile], **more: Any) -> Advice:
    advice = advise(Question(files, **{"places": EVERYWHERE, "local_memory_bytes": 16 * 10**9, **more}))
    assert advice is not None
    return advice


def why(advice: Advice, name: str) -> Choice:
    return next(choice for choice in advice.choices if choice.name == name)


CHATS: dict[Kind, TrainingFile] = {"sft": rows(1_000)}
PAIRS: dict[Kind, TrainingFile] = {"preference": rows(500)}
LARGE = "meta-llama/Llama-3.3-70B-Instruct"


@pytest.mark.parametrize(
    ("files", "more", "method", "base_model"),
    [
        (CHATS, {}, "lora", "Qwen/Qwen3-4B"),
        (CHATS, {"budget_usd": 50.0}, "lora", "Qwen/Qwen3-8B"),
        (CHATS, {"base_model": TINY}, "full", TINY),
        (CHATS, {"base_model": LARGE, "places": ("huggingface",)}, "qlora", LARGE),
        (CHATS, {"method": "full", "base_model": "Qwen/Qwen3-0.6B"}, "full", "Qwen/Qwen3-0.6B"),
        (CHATS, {"goal": "search"}, "embedding", "intfloat/multilingual-e5-small"),
        (PAIRS, {}, "dpo", "Qwen/Qwen3-4B"),
        (PAIRS, {"base_model": "acme/Words-3B-Base"}, "orpo", "acme/Words-3B-Base"),
        ({"kto": rows(500)}, {}, "kto", "Qwen/Qwen3-4B"),
        ({**CHATS, **PAIRS}, {}, "lora", "Qwen/Qwen3-4B"),
    ],
)  # fmt: skip
def test_the_rows_decide_the_method_and_the_limits_the_base(
    files: dict[Kind, TrainingFile], more: dict[str, Any], method: Method, base_model: str
) -> None:
    advice = ask(files, **more)
    assert (advice.method, advice.base_model, advice.meets) == (method, base_model, True)


def test_every_choice_has_its_reason_and_its_source() -> None:
    advice = ask({"sft": rows(40, held_out=5), "preference": rows(20)})
    assert all(choice.reason and choice.source for choice in advice.choices)
    set_there = advice.config.model_dump(exclude_unset=True)
    assert set_there == {choice.name: choice.value for choice in advice.choices if choice.name in set_there}
    named = {choice.name for choice in advice.choices}
    assert {"method", "base_model", "place", "learning_rate"} | set(set_there) == named
    assert {"epochs", "batch_size", "max_length", "lora_r", "lora_alpha"} <= named
    assert "dpo on the 20 preference pairs" in str(advice.next_step)
    assert "full" in advice.rejected[-1].option


@pytest.mark.parametrize("places", [("modal",), ("huggingface",), EVERYWHERE])
def test_less_time_is_dearer_and_kept(places: tuple[str, ...]) -> None:
    advices = [
        ask({"sft": rows(20_000)}, places=places, base_model="Qwen/Qwen3-1.7B", deadline_seconds=hours * HOUR)
        for hours in (24, 0.5, 0.35)
    ]
    for advice, hours in zip(advices, (24, 0.5, 0.35), strict=True):
        assert advice.meets
        assert (advice.estimate.duration_seconds_high or HOUR) <= hours * HOUR
    costs = [advice.estimate.cost_usd_high or 0 for advice in advices]
    assert costs == sorted(costs)
    assert costs[0] < costs[-1]


def test_a_small_budget_is_kept_by_a_smaller_model_and_says_what_was_too_dear() -> None:
    advice = ask({"sft": rows(5_000)}, places=("modal",), budget_usd=0.5)
    assert advice.meets
    assert (advice.estimate.cost_usd_high or 1) <= 0.5
    assert "0.50 USD are given" in advice.rejected[0].reason
    assert advice.rejected[0].option == "Qwen/Qwen3-8B with lora"


def test_this_machine_is_taken_where_it_is_fast_enough() -> None:
    assert ask({"sft": rows(50, 40)}, base_model=TINY).place == "local"
    assert ask(CHATS, base_model="Qwen/Qwen3-8B").place != "local"
    assert ask(CHATS, base_model=TINY, places=("modal",)).place == "modal"


def test_what_nobody_can_keep_to_is_said() -> None:
    advice = ask({"sft": rows(50_000)}, places=("local",), deadline_seconds=60)
    assert not advice.meets
    assert "comes nearest" in why(advice, "place").reason
    assert advise(Question({}, places=EVERYWHERE)) is None
    assert advise(Question(CHATS, places=())) is None


def test_equal_questions_have_equal_answers() -> None:
    once, again = (ask(CHATS, budget_usd=5.0, deadline_seconds=HOUR) for _ in range(2))
    assert once == again


def test_what_earlier_runs_say_moves_the_choice() -> None:
    slow = Calibration.of([Observation(9.0, 1.0)] * 5)
    question = Question(
        {"sft": rows(5_000)},
        places=("modal",),
        base_model="Qwen/Qwen3-4B",
        known=lambda *_: Known(calibrations=lambda gpu: slow if gpu == "L4" else Calibration()),
    )
    usual = advise(replace(question, known=lambda *_: Known()))
    calibrated = advise(question)
    assert usual is not None
    assert calibrated is not None
    assert (usual.gpu, calibrated.gpu == "L4") == ("L4", False)


# The numbers of the Cookbook.
@pytest.mark.parametrize(
    ("count", "wanted"),
    [(4, 25), (10, 10), (33, 3), (34, 3), (1_000, 3), (8_333, 3), (10_000, 2), (90_000, 1)],
)
def test_epochs_by_rows(count: int, wanted: int) -> None:
    assert epochs("lora", count).value == wanted
    assert epochs("dpo", count).value == 1


def test_batches_grow_with_the_rows() -> None:
    assert [batch_size("Qwen/Qwen3-4B", "lora", count).value for count in (20, 500, 5_000)] == [4, 8, 16]
    assert batch_size(TINY, "full", 5_000).value == 4
    assert batch_size("Qwen/Qwen3-4B", "kto", 20).value == 16


def test_no_row_is_left_out_for_one_that_is_a_little_longer() -> None:
    base = "Qwen/Qwen3-4B"
    within = max_length("lora", base, rows(1_000, 200, longest=390))
    beyond = max_length("lora", base, rows(1_000, 200, longest=9_000))
    assert within is not None
    assert beyond is not None
    assert (within.value, beyond.value) == (640, 384)
    assert "All rows fit" in within.reason
    assert "1 of 1,000 rows may be longer" in beyond.reason
    longest = max_length("lora", TINY, rows(10, 5_000))
    assert longest is not None
    assert longest.value == CATALOG[TINY].context_length


def test_the_rank_grows_with_what_adapters_must_hold() -> None:
    shape = CATALOG["HuggingFaceTB/SmolLM2-135M-Instruct"].shape
    assert [smallest_rank(shape, tokens) for tokens in (1_000, 15_000_000, 10**9)] == [16, 32, 128]
    assert why(ask({"sft": rows(30)}), "lora_r").value == 8
