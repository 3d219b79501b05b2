"""How long a run takes, how much memory, what it costs: ranges, not false precision."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from shared.training import catalog, prices
from shared.training.files import TrainingFile
from shared.training.sizing.calibration import Expectation, calibrated, size_class
from shared.training.sizing.duration import flops_per_token
from shared.training.sizing.gpu_run import NOTHING_MORE, PATIENCE_SECONDS, GpuRun, Known
from shared.training.sizing.gpus import Range
from shared.training.sizing.memory import Memory, cpu_memory
from shared.training.sizing.workload import Workload
from shared.training.spec import RunSpec

_LONGEST_SECONDS = 86_400
THIS_MACHINE = "cpu"  # where a GPU would be named
# Operations a second of the cores together: measured with the tiny model on 2 cores (0.5-0.7 M parameters,
# about 6,000 tokens/s), and ten times that for wider models on more of them.
_CPU_FLOPS = Range(4e9, 4e10)
_MALLOC_KEEPS = 1.4  # 614 MB were measured for the tiny model, of 450 that were counted
_START_SECONDS = Range(4.0, 20.0)  # importing torch and loading the model


@dataclass(frozen=True)
class Estimate:
    """What a run will take. Costs are USD; `*_low` and `*_high` are the ends of a range.

    `cost_usd` is the middle of the range, or the exact price of these tokens. A budget holds back
    `cost_usd_high`.
    """

    training_tokens: int  # one epoch
    billable_tokens: int  # all epochs
    cost_usd: float | None  # None: no price is known
    duration_seconds_low: float | None  # None: nothing is known of this base model
    duration_seconds_high: float | None
    memory_bytes_low: int | None
    memory_bytes_high: int | None
    price_source: str
    price_date: str  # YYYY-MM-DD
    notes: list[str] = field(default_factory=list)
    cost_usd_low: float | None = None
    cost_usd_high: float | None = None
    gpu: str | None = None  # as the provider names it; None: there is none to choose
    gpu_count: int = 1  # of them; memory is that of one
    price_unit: str | None = None  # 'million_training_tokens', 'second', 'hour'; None: nothing is billed
    usd_per_second: float | None = None  # None: time is not what is billed
    usd_per_million_tokens: float | None = None  # None: tokens are not what is billed
    shutdown_date: str | None = None  # YYYY-MM-DD: from then on the base and its fine-tunes do not answer
    closes_date: str | None = None  # YYYY-MM-DD: from then on the provider takes no job
    memory_parts: Memory | None = None  # of the upper end, before calibration; None: not known
    expected: Expectation | None = None  # before calibration; None: nothing is known to compare

    def held_usd(self, spend_cap_usd: float | None = None) -> float | None:
        """What a budget holds back for the run: its upper end, at most its cap; None: not known."""
        bounds = [usd for usd in (self.cost_usd_high, spend_cap_usd) if usd is not None]
        return min(bounds, default=None)

    def time_limit_seconds(self) -> int:
        """What a job gets that names no limit: six hours, or twice the upper end where that is more; a day
        at most, after which Modal ends a container."""
        return round(min(max(PATIENCE_SECONDS, 2 * (self.duration_seconds_high or 0)), _LONGEST_SECONDS))

    def as_json(self) -> dict[str, Any]:
        """As it leaves the house: camelCase, ranges as `{low, high}`."""
        return {
            "trainingTokens": self.training_tokens,
            "billableTokens": self.billable_tokens,
            "costUsd": self.cost_usd,
            "costRangeUsd": {"low": self.cost_usd_low, "high": self.cost_usd_high},
            "durationSeconds": {"low": self.duration_seconds_low, "high": self.duration_seconds_high},
            "memoryBytes": {"low": self.memory_bytes_low, "high": self.memory_bytes_high},
            "memoryParts": self.memory_parts.as_json() if self.memory_parts else None,
            "gpu": self.gpu,
            "gpuCount": self.gpu_count,
            "priceUnit": self.price_unit,
            "usdPerSecond": self.usd_per_second,
            "usdPerMillionTokens": self.usd_per_million_tokens,
            "priceSource": self.price_source,
            "priceDate": self.price_date,
            "shutdownDate": self.shutdown_date,
            "closesDate": self.closes_date,
            "notes": list(self.notes),
        }


def on_this_machine(spec: RunSpec, dataset: TrainingFile, known: Known = NOTHING_MORE) -> Estimate:
    """An estimate for training here, where time is all that is spent."""
    estimate = Estimate(
        training_tokens=dataset.token_count,
        billable_tokens=dataset.token_count * spec.config.epochs,
        cost_usd=0.0,
        cost_usd_low=0.0,
        cost_usd_high=0.0,
        duration_seconds_low=None,
        duration_seconds_high=None,
        memory_bytes_low=None,
        memory_bytes_high=None,
        price_source="this machine",
        price_date="2026-11-20",
        notes=["Training on this machine costs nothing but time."],
    )
    shape = known.shape or catalog.shape(spec.root_base_model)
    if shape is None:
        unknown = f"The size of {spec.base_model} is not known before it is loaded."
        return replace(estimate, notes=[*estimate.notes, unknown])
    work, calibration = Workload.of(spec, dataset), known.calibrations(THIS_MACHINE)
    least, most = (
        cpu_memory(
            shape,
            spec.method,
            lora_r=work.config.lora_r,
            dropout=work.config.lora_dropout > 0,
            tokens=tokens,
            width=width,
        )
        for tokens, width in work.fullest_passes
    )
    flops = flops_per_token(shape, spec.method, work.width.low, recomputes=False) * work.tokens
    expected = Range(
        _START_SECONDS.low + flops / _CPU_FLOPS.high, _START_SECONDS.high + flops / _CPU_FLOPS.low
    )
    seconds = calibrated(expected, calibration.duration)
    return replace(
        estimate,
        duration_seconds_low=seconds.low,
        duration_seconds_high=seconds.high,
        memory_bytes_low=round(least.total),
        memory_bytes_high=round(_MALLOC_KEEPS * most.total),
        memory_parts=most,
        expected=Expectation(THIS_MACHINE, size_class(shape.parameters), expected.middle, None),
        notes=[*estimate.notes, *calibration.notes("this machine")],
    )


def at_vendor(spec: RunSpec, dataset: TrainingFile, *, vendor: str) -> Estimate:
    """An estimate for a vendor that bills trained tokens: tokens of the dataset x epochs x price.

    How long it takes there, and on what, only the vendor knows.
    """
    price = prices.model_price(vendor, spec.base_model)
    estimate = _priced(spec, dataset, price, prices.vendor(vendor))
    cost = prices.training_cost_usd(vendor, spec.base_model, estimate.billable_tokens)
    if cost is None:
        unknown = f"No price of training {spec.base_model} with {vendor} is known; it is not free."
        return replace(estimate, notes=[unknown, *estimate.notes])
    return replace(estimate, cost_usd=cost, cost_usd_low=cost, cost_usd_high=cost)


def on_gpu(
    spec: RunSpec, dataset: TrainingFile, *, provider: str, gpu: str | None, known: Known = NOTHING_MORE
) -> Estimate:
    """An estimate for our trainer on a rented GPU: its seconds x the rate, as a range.

    `gpu` None: one is chosen, see GpuRun.best, and named in the answer.
    """
    run = GpuRun.of(spec, dataset, known)
    if gpu:
        price = prices.gpu_price(provider, prices.counted_gpu(provider, gpu, spec.gpu_count))
    else:
        price = run.best(prices.gpu_offers(provider, spec.gpu_count))
    seconds = run.seconds(price)
    cost = run.cost_usd(price)
    memory = run.memory(price)
    estimate = _priced(spec, dataset, price, prices.vendor(provider))
    return replace(
        estimate,
        gpu=gpu or (price.gpu.partition(":")[0] if price and price.gpu else None),
        gpu_count=spec.gpu_count,
        cost_usd=_two_digits((cost.low + cost.high) / 2) if cost else None,
        cost_usd_low=_two_digits(cost.low) if cost else None,
        cost_usd_high=_two_digits(cost.high) if cost else None,
        duration_seconds_low=_two_digits(seconds.low) if seconds else None,
        duration_seconds_high=_two_digits(seconds.high) if seconds else None,
        memory_bytes_low=round(memory.low) if memory else None,
        memory_bytes_high=round(memory.high) if memory else None,
        memory_parts=run.most,
        expected=run.expectation(price),
        notes=[*run.notes(price, provider, gpu), *estimate.notes],
    )


def _priced(
    spec: RunSpec, dataset: TrainingFile, price: prices.Price | None, vendor: prices.Vendor | None
) -> Estimate:
    """Tokens and where the price comes from; cost, duration and memory are left open."""
    source: prices.Price | prices.Vendor | None = price or vendor
    per_second = price.usd_per_second if price else None
    per_million = price.usd_per_million_tokens if price else None
    notes = list(vendor.notes) if vendor else []
    if price and price.shutdown_date:
        notes.append(
            f"{price.model} and what was tuned from it end on {price.shutdown_date}: {price.shutdown_source}."
        )
    if vendor and vendor.closes_on:
        notes.append(f"{vendor.provider} takes no new job from {vendor.closes_on} on: {vendor.source}.")
    return Estimate(
        training_tokens=dataset.token_count,
        billable_tokens=dataset.token_count * spec.config.epochs,
        cost_usd=None,
        duration_seconds_low=None,
        duration_seconds_high=None,
        memory_bytes_low=None,
        memory_bytes_high=None,
        price_source=source.source if source else "no price is known",
        price_date=str(source.as_of) if source else "",
        notes=notes,
        price_unit=price.unit if price else None,
        usd_per_second=round(float(per_second), 10) if per_second is not None else None,
        usd_per_million_tokens=float(per_million) if per_million is not None else None,
        shutdown_date=str(price.shutdown_date) if price and price.shutdown_date else None,
        closes_date=str(vendor.closes_on) if vendor and vendor.closes_on else None,
    )


def _two_digits(value: float) -> float:
    """A calculated number shows no more digits than are known: 1234.5 -> 1200, 0.0347 -> 0.035."""
    return float(f"{value:.2g}")
