"""A run of our trainer on a GPU that is rented: which one, for how long, at what price."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shared.training import catalog
from shared.training.files import TrainingFile
from shared.training.prices import Price, gpu_cost_usd
from shared.training.shapes import ModelShape
from shared.training.sizing.calibration import Calibration, Expectation, calibrated, size_class
from shared.training.sizing.duration import START_SECONDS, trainer_seconds
from shared.training.sizing.gpus import CARDS, Card, Range
from shared.training.sizing.memory import Memory, gpu_memory
from shared.training.sizing.workload import Workload
from shared.training.spec import RunSpec

_ORDINARY_CARD = "L40S"  # for a model whose size nobody knows
_CALCULATED = "Duration, memory and cost are calculated from the shape of the model, not measured."
PATIENCE_SECONDS = 21_600  # the time limit of a job that names none

# What earlier runs of this method and size on a GPU say, by the provider's name of it.
Calibrations = Callable[[str], Calibration]


def uncalibrated(_gpu: str) -> Calibration:
    """Where no run was seen yet."""
    return Calibration()


@dataclass(frozen=True)
class Known:
    """What is known of a run beyond its specification."""

    shape: ModelShape | None = None  # of the base model; None: as its name tells
    calibrations: Calibrations = uncalibrated


NOTHING_MORE = Known()


@dataclass(frozen=True)
class GpuRun:
    """What a run takes of any GPU."""

    spec: RunSpec
    work: Workload
    shape: ModelShape | None  # None: the size of the model is not known, and with it nothing below
    least: Memory | None  # with the rows as short as they may be
    most: Memory | None  # with the longest rows beside one another
    calibrations: Calibrations = uncalibrated

    @classmethod
    def of(cls, spec: RunSpec, dataset: TrainingFile, known: Known = NOTHING_MORE) -> GpuRun:
        """The run of these rows."""
        shape = known.shape or catalog.shape(spec.root_base_model)
        work = Workload.of(spec, dataset)
        least = most = None
        if shape is not None:
            least, most = (
                gpu_memory(
                    shape,
                    spec.method,
                    lora_r=work.config.lora_r,
                    dropout=work.config.lora_dropout > 0,
                    tokens=tokens,
                    width=width,
                    accumulates=work.accumulates,
                    cards=spec.gpu_count,
                )
                for tokens, width in work.fullest_passes
            )
        return cls(spec, work, shape, least, most, known.calibrations)

    def memory(self, price: Price | None) -> Range | None:
        """Bytes that the card must hold; None: the size of the model is not known."""
        if self.least is None or self.most is None:
            return None
        reserved = calibrated(Range(self.least.reserved, self.most.reserved), self._calibration(price).memory)
        return Range(reserved.low + self.least.runtime, reserved.high + self.most.runtime)

    def expectation(self, price: Price | None) -> Expectation | None:
        """What is compared with what the trainer will say; None: speed or size is not known."""
        seconds = self.trainer_seconds(price)
        if seconds is None or price is None or price.gpu is None or self.shape is None:
            return None
        assert self.least is not None
        assert self.most is not None
        reserved = Range(self.least.reserved, self.most.reserved).middle
        return Expectation(price.gpu, size_class(self.shape.parameters), seconds.middle, round(reserved))

    def trainer_seconds(self, price: Price | None) -> Range | None:
        """As the formulas say, without what earlier runs say; None: speed or size is not known."""
        card = _card(price)
        if price is None or card is None or self.shape is None:
            return None
        return trainer_seconds(self.shape, self.work, card, cards=price.card_count)

    def seconds(self, price: Price | None) -> Range | None:
        """What is billed there; None: the speed of the GPU or the size of the model is not known."""
        loop = self.trainer_seconds(price)
        if loop is None:
            return None
        known = calibrated(loop, self._calibration(price).duration)
        return Range(known.low + START_SECONDS.low, known.high + START_SECONDS.high)

    def cost_usd(self, price: Price | None) -> Range | None:
        """What it costs there; None: not known."""
        seconds = self.seconds(price)
        if price is None or price.gpu is None or seconds is None:
            return None
        low = gpu_cost_usd(price.provider, price.gpu, seconds.low)
        high = gpu_cost_usd(price.provider, price.gpu, seconds.high)
        return Range(low, high) if low is not None and high is not None else None

    def suitable(self, offers: tuple[Price, ...], patience_seconds: float = PATIENCE_SECONDS) -> list[Price]:
        """Every offer of so many GPUs that surely holds the run and ends it in time, in their order."""
        return [
            offer
            for offer in offers
            if (seconds := self._seconds_if_it_holds(offer)) is not None and seconds.high <= patience_seconds
        ]

    def best(self, offers: tuple[Price, ...], patience_seconds: float = PATIENCE_SECONDS) -> Price | None:
        """The cheapest offer by the hour that surely holds the run on as many GPUs as it asks for, in time.

        None such: the fastest that holds it; none of those: the largest. A model of unknown size gets
        an ordinary one. None: nothing is on offer. Offers come cheapest first.
        """
        fitting = [offer for offer in offers if offer.card_count == self.spec.gpu_count and _card(offer)]
        if self.shape is None:
            return next((offer for offer in fitting if offer.card == _ORDINARY_CARD), None)
        if in_time := self.suitable(offers, patience_seconds):
            return in_time[0]
        timed = [(offer, seconds.high) for offer in fitting if (seconds := self._seconds_if_it_holds(offer))]
        if timed:
            return min(timed, key=lambda pair: pair[1])[0]
        return max(fitting, key=lambda offer: CARDS[offer.card or ""].memory_bytes, default=None)

    def holds(self, price: Price) -> bool:
        """Whether the card surely has the memory that the run needs."""
        card, memory = _card(price), self.memory(price)
        return card is not None and memory is not None and memory.high <= card.memory_bytes

    def notes(self, price: Price | None, provider: str, gpu: str | None) -> list[str]:
        """What a reader of the estimate must know: how it was made, what is missing, what may go wrong."""
        card = _card(price)
        name = price.gpu if price and price.gpu else gpu or "a GPU"
        model = self.spec.base_model
        said = []
        if price is None:
            said.append(f"No price of {name} at {provider} is known; it is not free.")
        if self.shape is None:
            said.append(f"The size of {model} is not known, so neither are duration, memory and cost.")
        else:
            seen = self._calibration(price).notes(name)
            said += seen or [
                "Duration, memory and cost are calculated from the shape of the model, not measured."
            ]
        if price is not None and card is not None and self.shape is not None and not self.holds(price):
            said.append(f"The memory of {name} may be too small: lower batchSize or maxLength.")
        if self.spec.gpu_count > 1:
            said.append("The time in which the GPUs exchange what they learned is not counted.")
        if card is not None and not card.has_bfloat16:
            said.append(f"{name} does not know bfloat16, in which the trainer computes: take a newer one.")
        return said

    def _calibration(self, price: Price | None) -> Calibration:
        return self.calibrations(price.gpu) if price and price.gpu else Calibration()

    def _seconds_if_it_holds(self, price: Price) -> Range | None:
        card = _card(price)
        suits = (
            price.card_count == self.spec.gpu_count
            and card is not None
            and card.has_bfloat16
            and self.holds(price)
        )
        return self.seconds(price) if suits else None


def _card(price: Price | None) -> Card | None:
    return CARDS.get(price.card) if price and price.card else None
