"""What generate-dataset is asked, and what it answers."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, model_validator

from functions.messages import Request, Response
from shared.datasets.formats import Format
from shared.generation.choice import Generation, GeneratorName
from shared.generation.estimate import GenerationEstimate
from shared.generation.source import Mode

Wish = Annotated[str, Field(min_length=1, max_length=200)]


class GenerateDataset(Request):
    """What to make of which documents; or what to do with a dataset that is being made."""

    action: Literal["create", "estimate", "stop", "continue"] = Field(
        default="create",
        description="estimate: what create would take. stop: no chunk is begun any more, what is made stays. "
        "continue: what failed or was not begun is worked on.",
    )
    project_id: UUID | None = None
    dataset_name: str | None = Field(default=None, min_length=1, max_length=120)
    format: Format = "openai"
    mode: Mode = "auto"
    system_prompt: str | None = Field(default=None, max_length=8000)
    document_ids: list[UUID] | None = Field(
        default=None, min_length=1, max_length=1000, description="null: all ready documents of the project."
    )
    generator: GeneratorName = "extractive"
    model: str | None = Field(default=None, min_length=1, max_length=200)
    pairs_per_chunk: int = Field(default=3, ge=1, le=10)
    max_pairs: int | None = Field(default=None, ge=10, le=10_000)
    max_cost_usd: Decimal | None = Field(
        default=None, gt=0, le=100_000, description="Also of continue, where it is the new cap on all of it."
    )
    fresh: bool = Field(
        default=False, description="Take no answer of the model that another dataset has paid for."
    )
    batch: bool = Field(
        default=False,
        description="The vendor's batches: answered within a day, at half the price. With continue, false "
        "leaves them and asks at once.",
    )
    audiences: list[Wish] = Field(
        default=[],
        max_length=20,
        description="Whom a model writes for, chunk by chunk. Empty: a usual mixture.",
    )
    styles: list[Wish] = Field(default=[], max_length=20, description="How it answers, likewise.")
    reasoning: bool = Field(default=False, description="Answers begin with <think>...</think>.")
    judge: bool = Field(default=False, description="A second call of the model says what is not supported.")
    include_flagged: bool = Field(
        default=False, description="Also chunks that seem to speak to models, without the passages that do."
    )
    min_chunk_quality: float | None = Field(default=None, ge=0, le=1)
    dataset_id: UUID | None = Field(default=None, description="Of stop and continue, and of row events.")

    @model_validator(mode="after")
    def _one_of_two(self) -> GenerateDataset:
        named = self.project_id is not None and (self.dataset_name is not None or self.action == "estimate")
        if self.dataset_id is None and self.action in ("stop", "continue"):
            raise ValueError(f"{self.action} needs datasetId")
        if self.dataset_id is None and not named:
            raise ValueError("give projectId and datasetName")
        texts = (self.dataset_name, self.system_prompt, self.model, *self.audiences, *self.styles)
        if any("\0" in text for text in texts if text):
            raise ValueError("a text holds a NUL")
        if self.generator == "extractive" and (self.audiences or self.styles or self.reasoning or self.judge):
            raise ValueError("audiences, styles, reasoning and judge need a model: choose another generator")
        if self.batch and self.judge:
            raise ValueError("a judge is asked at once and not in a batch: leave out batch or judge")
        if self.batch and self.action == "continue":
            raise ValueError("continue keeps the batch of its dataset, or leaves it with batch: false")
        return self

    @property
    def leaves_batch(self) -> bool:
        """Whether a dataset that goes on is to ask at once."""
        return "batch" in self.model_fields_set and not self.batch

    @property
    def generation(self) -> Generation:
        return Generation(
            generator=self.generator,
            model=self.model,
            pairs_per_chunk=self.pairs_per_chunk,
            max_pairs=self.max_pairs,
            fresh=self.fresh,
            batch=self.batch,
            audiences=tuple(self.audiences),
            styles=tuple(self.styles),
            reasoning=self.reasoning,
            judge=self.judge,
            include_flagged=self.include_flagged,
            min_chunk_quality=self.min_chunk_quality,
        )


class TokenRange(Response):
    low: int
    high: int


class UsdRange(Response):
    low: float
    high: float


class Estimate(Response):
    """Before anything is paid. Prompts are counted, answers guessed; answers that are known cost nothing."""

    prompt_tokens: TokenRange
    completion_tokens: TokenRange
    cost_usd: UsdRange | None = Field(description="null: no price is known.")
    price_source: str | None = Field(description="null: nobody is paid.")
    notes: list[str]

    @classmethod
    def of(cls, estimate: GenerationEstimate) -> Estimate:
        tokens = [
            TokenRange(low=low, high=high)
            for low, high in (estimate.prompt_tokens, estimate.completion_tokens)
        ]
        usd = estimate.cost_usd
        return cls(
            prompt_tokens=tokens[0],
            completion_tokens=tokens[1],
            cost_usd=None if usd is None else UsdRange(low=float(usd[0]), high=float(usd[1])),
            price_source=estimate.price_source,
            notes=list(estimate.notes),
        )


class DatasetGenerating(Response):
    dataset_id: UUID | None = Field(description="null: it was an estimate.")
    status: str | None
    chunk_count: int
    estimate: Estimate | None = Field(default=None, description="Of create and estimate.")
