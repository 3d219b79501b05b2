"""The one contract between those who start a training run and the trainer that does it.

`RunSpec` goes in as `spec.json` in the run directory; `TrainerReport`s come out, by HTTPS to
report-training and in the run directory. Both sides validate with these types, so a field is
named once and means the same in the row, in the event and in the trainer.
"""

from __future__ import annotations

import hashlib
import json
from enum import IntEnum, StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import ConfigDict, Field, SecretStr, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from shared.training.config import Method, Record, TrainingConfig
from shared.training.model_files import ModelFiles, PieceSha256

# A Hub id, an absolute path, or model:<id of a model of the project>; no Hub id has a colon. Nothing that
# could climb out of a cache directory.
# ASCII classes and no counted repeats: \w{0,95} expands past the regex engine's size limit.
_MODEL_ID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
BASE_MODEL_PATTERN = (
    rf"^(/[^\x00]+|model:{_MODEL_ID}|[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)?)$"
)
BaseModelId = Annotated[str, StringConstraints(pattern=BASE_MODEL_PATTERN, max_length=1001)]
OF_THE_PROJECT = "model:"


def parent_id(base_model: str) -> UUID | None:
    """The model of the project that is meant; None: the base model is somebody else's."""
    return UUID(base_model.removeprefix(OF_THE_PROJECT)) if base_model.startswith(OF_THE_PROJECT) else None


MOST_GPUS = 8  # that one machine has, at Modal as elsewhere
MOST_BASE_PIECES = 16  # asked for at once: few enough that no address expires before its turn


class DatasetFile(Record):
    """Rows of a run, one JSON object a line, in the shape that its method reads: see `training_rows`."""

    name: str = "train.jsonl"
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    row_count: int = Field(ge=1)


class Callback(Record):
    """Where a trainer reports. The token opens report-training for this job and attempt only."""

    url: str
    token: SecretStr
    stores_model: bool = Field(
        default=False, description="The disk of the trainer does not last: its model goes to Storage."
    )


class Ticket(Record):
    """All that a trainer in a rented container is started with. It fetches its work with the claim.

    The place that runs it may keep it: it holds no row, no key, and a token for one job and attempt.
    """

    report_url: str
    token: SecretStr
    job_id: UUID
    attempt: int = Field(ge=1)
    run_id: UUID

    def for_wire(self) -> dict[str, Any]:
        """The ticket as JSON values, the token readable: for the one call that starts the trainer."""
        return {**self.model_dump(mode="json"), "token": self.token.get_secret_value()}


class ParentModel(Record):
    """What a run must know of a model of its project that it starts from."""

    root_base_model: BaseModelId = Field(
        description="What the first of its line was trained from: size, tokens and defaults are its."
    )
    artifact_path: str = Field(
        max_length=2000, description="Where its weights are (shared/models/stored.py)."
    )


def root_of(base_model: str, parent: ParentModel | None) -> str:
    """The base model that size, tokens and defaults are those of; parent: as `RunSpec.parent`."""
    return parent.root_base_model if parent else base_model


class RunSpec(Record):
    """Everything a trainer must know; equal specs give equal runs. Holds no secret."""

    job_id: UUID
    attempt: int = Field(ge=1)
    run_id: UUID = Field(description="Who reports. A second trainer with another run_id loses the claim.")
    base_model: BaseModelId
    base_revision: str | None = Field(default=None, max_length=64, description="Commit of a Hub model.")
    parent: ParentModel | None = Field(
        default=None, description="Set when base_model is a model of the project; None: it is another's."
    )
    method: Method
    config: TrainingConfig = Field(description="Resolved where our trainer runs: no field is None.")
    dataset: DatasetFile
    validation: DatasetFile | None = Field(
        default=None, description="Rows that are never trained, only looked at; None: there are none."
    )
    model_name: str = Field(default="", max_length=120, description="Shown in the provider's own lists.")
    gpu: str | None = Field(
        default=None, max_length=40, description="As the provider names it; None: its default."
    )
    gpu_count: int = Field(
        default=1, ge=1, le=MOST_GPUS, description="In one machine; each is a process that trains its share."
    )
    timeout_seconds: int | None = Field(
        default=None, ge=60, description="When the place that runs it may stop it; None: its own limit."
    )

    @model_validator(mode="after")
    def _knows_its_parent(self) -> RunSpec:
        if (self.parent is None) != (parent_id(self.base_model) is None):
            raise ValueError("parent: set when base_model is a model of the project, and only then")
        return self

    @property
    def root_base_model(self) -> str:
        """The base model that size, tokens and defaults are those of."""
        return root_of(self.base_model, self.parent)

    def fingerprint(self) -> str:
        """The sha256 of what decides the weights: two runs with the same one are the same run."""
        passing = {"job_id", "attempt", "run_id", "model_name", "gpu", "timeout_seconds"}
        passing.add("parent")  # base_model names it; where its weights lie decides nothing
        if self.gpu_count == 1:  # as it was before there could be more: old runs go on, old recipes match
            passing.add("gpu_count")
        decisive = self.model_dump(mode="json", exclude=passing)
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


class RunState(StrEnum):
    """How a run ended, or that it did not yet."""

    STARTING = "starting"
    TRAINING = "training"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"  # stopped from outside with a checkpoint saved; may be started again


class TrainerExit(IntEnum):
    """Exit codes of a trainer process. Only 0 is success, so no signal can be mistaken for it."""

    COMPLETED = 0
    FAILED = 1
    INTERRUPTED = 75  # EX_TEMPFAIL: run it again, it resumes
    CANCELLED = 76
    CLAIM_LOST = 77  # another trainer has this job


class Progress(Record):
    """The latest state of a run. None: not known (yet)."""

    progress_percent: float = Field(ge=0, le=100)
    current_step: str = Field(max_length=200, description="For people: 'Training... (15000 tokens trained)'.")
    epoch: float | None = Field(default=None, ge=0)
    total_epochs: int | None = Field(default=None, ge=1)
    step: int | None = Field(default=None, ge=0)
    total_steps: int | None = Field(default=None, ge=1)
    training_loss: float | None = None
    validation_loss: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None
    trained_tokens: int | None = Field(default=None, ge=0)
    tokens_per_second: float | None = Field(default=None, ge=0)
    gpu_memory_bytes: int | None = Field(default=None, ge=0)
    eta_seconds: float | None = Field(default=None, ge=0)


class RunError(Record):
    """Why a run failed: a code for programs, a sentence that says what to do next."""

    code: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{1,60}$")]
    message: Annotated[str, StringConstraints(min_length=1, max_length=2000)]


class RunResult(Record):
    """What a finished run leaves behind."""

    state: Literal[RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED, RunState.INTERRUPTED]
    artifact_path: str | None = Field(
        default=None,
        max_length=2000,
        description="Where the servable model is (shared/models/stored.py); None unless completed.",
    )
    artifact_bytes: int | None = Field(default=None, ge=0)
    provider_model_id: str | None = Field(
        default=None, max_length=300, description="What the provider calls it; None: the weights are ours."
    )
    template_fingerprint: str | None = Field(
        default=None, description="sha256 of chat template, EOS, BOS, special ids."
    )
    training_loss: float | None = None
    trained_tokens: int | None = Field(default=None, ge=0)
    duration_seconds: float | None = Field(default=None, ge=0)
    metrics: dict[str, Any] = Field(default_factory=dict)
    recipe: dict[str, Any] = Field(default_factory=dict, description="Versions, hardware, spec fingerprint.")
    error: RunError | None = None


class TrainerReport(Record):
    """One message of a trainer. `seq` starts at 1 and grows by 1 a report, also over a resume.

    A trainer whose directory was lost goes on after the last number that report-training has stored.
    `events.jsonl` in the run directory holds them all. The network may skip a progress report that a
    newer one replaced; it never skips a claim, an event or a result.
    """

    seq: int = Field(ge=1)
    kind: Literal["claim", "progress", "event", "result"]
    progress: Progress | None = None
    message: str | None = Field(default=None, max_length=2000, description="For kind 'event'.")
    level: Literal["info", "warning", "error"] = "info"
    data: dict[str, Any] = Field(default_factory=dict)
    result: RunResult | None = None


class Message(Record):
    """A record that crosses the network: camelCase outside, snake_case accepted as well."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class ReportBatch(Message):
    """Body of a POST to report-training. Reports are in order; none was acknowledged before."""

    attempt: int = Field(ge=1)
    run_id: UUID
    reports: list[TrainerReport] = Field(min_length=1, max_length=100)
    want_work: bool = Field(default=False, description="Beside a claim: the trainer has a ticket only.")
    provider_job_id: str | None = Field(
        default=None, min_length=1, max_length=200, description="What the provider calls this trainer's run."
    )
    model_files: ModelFiles | None = Field(
        default=None,
        description="The model is trained: places in Storage are wanted for what is missing there.",
    )
    base_pieces: list[PieceSha256] = Field(
        default=[],
        max_length=MOST_BASE_PIECES,
        description="Of the parent in Storage: addresses are wanted of these, or of the list of its files.",
    )


class TrainerWork(Message):
    """What the trainer that has the claim is to do."""

    model_config = ConfigDict(extra="ignore")

    spec: RunSpec
    dataset_url: str = Field(repr=False, description="Opens the training file to who has it, for an hour.")
    validation_url: str | None = Field(
        default=None, repr=False, description="Opens the validation file; None: the run has none."
    )
    stores_model: bool = Field(
        default=False, description="The disk there does not last: the model goes to Storage before the end."
    )


class Place(Message):
    """Where a piece of a model is put by one PUT, again if need be, or fetched from."""

    model_config = ConfigDict(extra="ignore")

    sha256: PieceSha256
    url: str = Field(
        repr=False, description="Opens this one place to who has it: for two hours to put, for one to fetch."
    )


class ModelPlaces(Message):
    """How much of the model Storage has."""

    model_config = ConfigDict(extra="ignore")

    missing_bytes: int = Field(ge=0)
    places: list[Place] = Field(
        default=[], description="For some of the missing pieces; ask again for others."
    )
    artifact_path: str | None = Field(default=None, description="Where the model is; None: not all is there.")


class ReportReceipt(Message):
    """Answer of report-training. `claimed` false: another trainer has this job, stop at once."""

    model_config = ConfigDict(extra="ignore")

    accepted_seq: int = Field(ge=0, description="Every report up to here is stored.")
    cancel_requested: bool = False
    claimed: bool = True
    work: TrainerWork | None = Field(default=None, description="Set when it was wanted.")
    model_places: ModelPlaces | None = Field(default=None, description="Set for model_files.")
    base_places: list[Place] = Field(default=[], description="One for each of base_pieces.")


class RunStatus(Record):
    """`status.json` of a run directory: the same facts, for whoever can read the directory."""

    state: RunState
    last_seq: int = Field(default=0, ge=0)
    progress: Progress | None = None
    result: RunResult | None = None
