"""How estimates and jobs look: no cost is shown as certain that is not, and no unknown one as nothing."""

import io
from typing import Any

import pytest
from rich.console import Console

from cli.backend.failures import explain
from cli.screen.jobs import estimate_view, job_facts

BUDGET = {
    "monthUsd": None,
    "enforcement": "warn",
    "spentUsd": 2,
    "reservedUsd": 0.5,
    "remainingUsd": None,
    "projectedMonthUsd": 4,
    "wouldExceed": False,
}
ESTIMATE = {
    "costUsd": 0.12,
    "costRangeUsd": {"low": 0.028, "high": 0.22},
    "durationSeconds": {"low": 50, "high": 400},
    "memoryBytes": {"low": 20 * 1024**3, "high": 25 * 1024**3},
    "gpu": "L40S",
    "gpuCount": 1,
    "usdPerSecond": 0.000542,
    "usdPerMillionTokens": None,
    "priceSource": "Modal's price list",
    "priceDate": "2026-06-27",
    "shutdownDate": None,
    "closesDate": None,
    "exampleCount": 100,
    "trainingTokens": 4306,
    "billableTokens": 86120,
    "baseModel": "Qwen/Qwen3-8B",
    "method": "lora",
    "provider": "modal",
    "notes": ["Calculated, not measured."],
    "budget": BUDGET,
}


def printed(view) -> str:
    stream = io.StringIO()
    Console(file=stream, width=160).print(view)
    return " ".join(stream.getvalue().split())


def shown(**changed: Any) -> str:
    return printed(estimate_view(ESTIMATE | changed))


def test_a_range_is_shown_with_the_rate_and_its_source() -> None:
    text = shown()
    assert "cost $0.0280 to $0.22" in text or "cost $0.0280 to $0.2200" in text
    assert "$1.95 an hour: Modal's price list (2026-06-27)" in text
    assert "gpu L40S" in text
    assert "Calculated, not measured." in text


def test_an_exact_cost_is_one_number_and_last_days_are_shown() -> None:
    exact = {"low": 0.4306, "high": 0.4306}
    text = shown(
        costUsd=0.4306, costRangeUsd=exact, usdPerSecond=None, usdPerMillionTokens=5.0, gpu=None,
        shutdownDate="2027-01-14", closesDate="2027-01-06",
    )  # fmt: skip
    assert "cost $0.4306 price $5.00 a million trained tokens" in text
    assert "base model ends 2027-01-14 no new jobs from 2027-01-06" in text


def test_an_unknown_cost_is_unknown() -> None:
    assert "cost unknown" in shown(costUsd=None, costRangeUsd={"low": None, "high": None})


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, "none set; this month $2.00 spent"),
        ({"monthUsd": 10}, "$10.00 a month (warn): $2.00 spent"),
        ({"monthUsd": 10}, "$4.00 projected with this run; within it"),
        ({"monthUsd": 10, "wouldExceed": True}, "over it with this run"),
        ({"monthUsd": 10, "wouldExceed": None}, "cost unknown"),
    ],
)
def test_the_budget_says_where_the_project_stands(changed: dict[str, Any], words: str) -> None:
    assert words in shown(budget=BUDGET | changed)


def test_a_job_shows_its_cost_so_far_beside_the_estimate() -> None:
    row = {"id": "x", "status": "training", "cost_usd": 1.5, "estimated_cost_usd": 2, "spend_cap_usd": 3}
    text = printed(job_facts(row))
    assert "cost $1.50 (estimated $2.00)" in text
    assert "spend cap $3.00" in text
    assert "cost" not in printed(job_facts({"id": "x", "status": "queued"}))


def test_an_alternative_becomes_a_command_to_type() -> None:
    from supabase_functions.errors import FunctionsHttpError

    offer = {
        "provider": "modal",
        "baseModel": "Qwen/Qwen3-4B",
        "method": "lora",
        "costRangeUsd": {"high": 0.1},
    }
    body = {"code": "provider_has_no_fine_tuning", "message": "No.", "details": {"alternative": offer}}
    error = explain(FunctionsHttpError(body, 403))
    assert error
    assert error.hint == (
        "Instead, for 0.10 USD at most: fineflow train DATASET --provider modal"
        " --base-model Qwen/Qwen3-4B --method lora"
    )
