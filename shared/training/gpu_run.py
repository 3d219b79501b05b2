"""A run of our trainer on a GPU that is rented: which one, for how long, at what price."""

from __future__ import annotations

import math
from dataclasses import dataclass

from shared.training import gpus
from shared.training.catalog import parameter_count, resolve
from shared.training.config import METHODS, Method
from shared.training.files import TrainingFile
from shared.training.prices import Price, gpu_cost_usd
from shared.training.spec import RunSpec

_ORDINARY_CARD = "L40S"  # for a model whose size nobody knows
# What passes at once of a row: a prompt with each of its answers; a question and what answers it.
_TEXTS_A_ROW: dict[Method, int] = dict.fromkeys(METHODS, 1) | {"dpo": 2, "orpo": 2, "embedding": 2}
_PATIENCE_SECONDS = 21_600  # the time limit of a job that names none


@dataclass(frozen=True)
class GpuRun:
    """What a run takes of any GPU."""

    spec: RunSpec
    tokens: int  # all epochs
    steps: int  # of the optimiser
    parameters: int | None  # None: the size of the model is not known, and with it nothing below
    memory: gpus.Range | None  # bytes

    @classmethod
    def of(cls, spec: RunSpec, dataset: TrainingFile) -> GpuRun:
        """The run of these rows; what the configuration leaves open is what our trainer would take."""
        config = resolve(spec.config, spec.base_model, spec.method)
        assert config.batch_size
        assert config.max_length
        parameters = parameter_count(spec.base_model)
        memory = None
        if parameters is not None:
            memory = gpus.memory_bytes(
                parameters,
                spec.method,
                lora_r=config.lora_r,
                step_tokens=config.batch_size * dataset.token_count // max(1, dataset.row_count),
                longest_step_tokens=config.batch_size * _TEXTS_A_ROW[spec.method] * config.max_length,
            )
        return cls(
            spec=spec,
            tokens=dataset.token_count * config.epochs,
            steps=math.ceil(dataset.row_count / config.batch_size) * config.epochs,
            parameters=parameters,
            memory=memory,
        )

    def seconds(self, price: Price | None) -> gpus.Range | None:
        """What is billed there; None: the speed of the GPU or the size of the model is not known."""
        card = _card(price)
        if price is None or card is None or self.parameters is None:
            return None
        return gpus.duration_seconds(
            self.parameters,
            self.spec.method,
            card,
            cards=price.card_count,
            tokens=self.tokens,
            steps=self.steps,
        )

    def cost_usd(self, price: Price | None) -> gpus.Range | None:
        """What it costs there; None: not known."""
        seconds = self.seconds(price)
        if price is None or price.gpu is None or seconds is None:
            return None
        low = gpu_cost_usd(price.provider, price.gpu, seconds.low)
        high = gpu_cost_usd(price.provider, price.gpu, seconds.high)
        return gpus.Range(low, high) if low is not None and high is not None else None

    def best(self, offers: tuple[Price, ...]) -> Price | None:
        """The cheapest single GPU by the hour that surely holds the run and ends it within six hours.

        None such: the fastest that holds it; none of those: the largest. A model of unknown size gets
        an ordinary one. None: nothing is on offer.
        """
        single = [offer for offer in offers if offer.card_count == 1 and _card(offer)]
        if self.memory is None:
            return next((offer for offer in single if offer.card == _ORDINARY_CARD), None)
        timed = [(offer, seconds.high) for offer in single if (seconds := self._seconds_if_it_suits(offer))]
        in_time = [offer for offer, seconds in timed if seconds <= _PATIENCE_SECONDS]
        if in_time:
            return in_time[0]  # offers come cheapest first
        if timed:
            return min(timed, key=lambda pair: pair[1])[0]
        return max(single, key=lambda offer: gpus.CARDS[offer.card or ""].memory_bytes, default=None)

    def notes(self, price: Price | None, provider: str, gpu: str | None) -> list[str]:
        """What a reader of the estimate must know: how it was made, what is missing, what may go wrong."""
        card = _card(price)
        name = price.gpu if price else gpu or "a GPU"
        model = self.spec.base_model
        said = []
        if price is None:
            said.append(f"No price of {name} at {provider} is known; it is not free.")
        if self.parameters is None:
            said.append(f"The size of {model} is not known, so neither are duration, memory and cost.")
        else:
            said.append("Duration, memory and cost are calculated from the size of the model, not measured.")
        if card is not None and not self._fits(card):
            said.append(f"The memory of {name} may be too small: lower batchSize or maxLength.")
        if card is not None and not card.has_bfloat16:
            said.append(f"{name} does not know bfloat16, in which the trainer computes: take a newer one.")
        return said

    def _seconds_if_it_suits(self, price: Price) -> gpus.Range | None:
        card = _card(price)
        suits = card is not None and card.has_bfloat16 and self._fits(card)
        return self.seconds(price) if suits else None

    def _fits(self, card: gpus.Card) -> bool:
        return self.memory is None or self.memory.high <= card.memory_bytes


def _card(price: Price | None) -> gpus.Card | None:
    return gpus.CARDS.get(price.card) if price and price.card else None
