"""How long a run takes, how much memory, what it costs: ranges, not false precision."""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.training.catalog import CATALOG
from shared.training.files import TrainingFile
from shared.training.spec import RunSpec

# Tokens that one core moves through one parameter a second, measured with the tiny model on 2 cores
# (0.5-0.7 M parameters, about 6,000 tokens/s): 4 GFLOP/s at 6 FLOP a token and parameter.
_CPU_FLOPS_LOW, _CPU_FLOPS_HIGH = 4e9, 4e10
_START_SECONDS = (4.0, 20.0)  # importing torch and loading the model
_BYTES_A_PARAMETER = {"full": 16, "lora": 4}  # fp32: weights, gradients, two Adam moments; LoRA: weights
_PROCESS_BYTES = 450_000_000  # an interpreter with torch and transformers loaded, measured


@dataclass(frozen=True)
class Estimate:
    """What a run will take. Costs are USD; `*_low` and `*_high` are the ends of a range."""

    training_tokens: int  # one epoch
    billable_tokens: int  # all epochs
    cost_usd: float
    duration_seconds_low: float | None  # None: nothing is known of this base model
    duration_seconds_high: float | None
    memory_bytes_low: int | None
    memory_bytes_high: int | None
    price_source: str
    price_date: str  # YYYY-MM-DD
    notes: list[str] = field(default_factory=list)


def on_this_machine(spec: RunSpec, dataset: TrainingFile) -> Estimate:
    """An estimate for training here, where time is all that is spent."""
    billable = dataset.token_count * spec.config.epochs
    base = CATALOG.get(spec.base_model)
    notes = ["Training on this machine costs nothing but time."]
    duration: tuple[float, float] | None = None
    memory: tuple[int, int] | None = None
    if base is None:
        notes.append(f"The size of {spec.base_model} is not known before it is loaded.")
    else:
        # 6 floating point operations a parameter and token: 2 forward, 4 backward (Kaplan et al. 2020).
        work = 6 * base.parameters * billable
        duration = (
            _START_SECONDS[0] + work / _CPU_FLOPS_HIGH,
            _START_SECONDS[1] + work / _CPU_FLOPS_LOW,
        )
        weights = base.parameters * _BYTES_A_PARAMETER[spec.method]
        memory = (_PROCESS_BYTES + weights, 2 * (_PROCESS_BYTES + weights))
    return Estimate(
        training_tokens=dataset.token_count,
        billable_tokens=billable,
        cost_usd=0.0,
        duration_seconds_low=duration[0] if duration else None,
        duration_seconds_high=duration[1] if duration else None,
        memory_bytes_low=memory[0] if memory else None,
        memory_bytes_high=memory[1] if memory else None,
        price_source="this machine",
        price_date="2026-11-20",
        notes=notes,
    )
