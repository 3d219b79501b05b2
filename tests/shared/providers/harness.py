"""One provider, the fake vendor behind it, and a hand on the vendor: what the contract suite asks for.

Each provider has `harness_<name>.py` beside this file, which exports

    harness(tmp_path, timeout_seconds)    a context manager that gives a `Harness`
    OPERATIONS                            the operations below that its vendor has

and stands in `HARNESSES`. Vendors' operations, as `disturb` and `calls` name them:

    create   the one call that makes a run             list     the search for runs
    upload   the training file goes to the vendor      poll     the status of one run
    cancel   a run is stopped                          check    a key is looked at
    delete   a tuned model is deleted
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from pydantic import SecretStr

from shared.keys.store import OpenedKey
from shared.providers.base import ProviderReport, ReportedStatus, TrainingProvider
from shared.training.config import Method, TrainingConfig
from shared.training.files import TrainingFile
from shared.training.spec import Callback, DatasetFile, RunSpec
from tests.fakes.http import Fault

ALL_OPERATIONS = frozenset({"create", "list", "upload", "poll", "cancel", "check", "delete"})
NOBODY = Callback(url="http://127.0.0.1:9/report-training", token=SecretStr("canary-token"))


class Harness(Protocol):
    """A provider and its vendor. Everything here is synchronous and takes effect at once."""

    name: str
    provider: TrainingProvider
    key: OpenedKey | None  # None: the provider needs none
    deployment_secret: str  # instead of a key, where there are errors that could quote one
    searchable: bool  # False: the vendor has no list, so `find` cannot know what start did not return
    vendor_statuses: frozenset[str]  # the published enum, from the SDK's own type where it has one
    meanings: Mapping[str, ReportedStatus]  # what each of them must be reported as
    unknown_ref: str  # looks like a run of this vendor, and is none
    file: TrainingFile
    callback: Callback

    def spec(self) -> RunSpec:
        """A run that this vendor would accept; another job each time."""
        ...

    def runs(self) -> list[str]:
        """All runs that the vendor holds, the oldest first, however they were made."""
        ...

    def add_run(self, idempotency_key: str) -> str:
        """A run as `start` makes it, made behind the provider's back; later than those before it."""
        ...

    def set_status(self, ref: str, word: str) -> None:
        """The vendor says this word from now on, with what belongs to it: a model, an error."""
        ...

    def status_of(self, ref: str) -> str:
        """The vendor's own word."""
        ...

    def disturb(self, operation: str, *faults: Fault) -> None:
        """The next calls of this operation meet these faults, one each."""
        ...

    def refusal(self, status: int, message: str) -> Fault:
        """An answer of this HTTP status with this message, in the vendor's error shape."""
        ...

    def calls(self, operation: str) -> int:
        """How often the vendor was asked for this, disturbed calls included."""
        ...


class HarnessModule(Protocol):
    """What `harness_<name>.py` exports."""

    harness: Callable[[Path, float], AbstractContextManager[Harness]]
    OPERATIONS: frozenset[str]


def training_file(content: bytes, row_count: int) -> TrainingFile:
    """These bytes as a training file."""
    return TrainingFile(
        content=content,
        sha256=hashlib.sha256(content).hexdigest(),
        row_count=row_count,
        token_count=len(content) // 4,
        char_count=len(content),
    )


CHAT_ROW = b'{"messages":[{"role":"user","content":"Who?"},{"role":"assistant","content":"Nell."}]}\n'
CHAT_FILE = training_file(CHAT_ROW * 12, row_count=12)


def run_spec(
    base_model: str,
    file: TrainingFile = CHAT_FILE,
    *,
    method: Method = "full",
    config: TrainingConfig | None = None,
    model_name: str = "My support model",
    gpu: str | None = None,
) -> RunSpec:
    """The spec of a new job's first attempt."""
    return RunSpec(
        job_id=uuid4(),
        attempt=1,
        run_id=uuid4(),
        base_model=base_model,
        method=method,
        config=config or TrainingConfig(),
        dataset=DatasetFile(sha256=file.sha256, row_count=file.row_count),
        model_name=model_name,
        gpu=gpu,
    )


async def start(harness: Harness, spec: RunSpec) -> str:
    """As the job core starts a run."""
    return await harness.provider.start(
        spec, harness.file, idempotency_key=str(spec.job_id), callback=harness.callback, key=harness.key
    )


async def find(harness: Harness, spec: RunSpec) -> list[str]:
    """As the job core looks for the runs of this job."""
    return await harness.provider.find(str(spec.job_id), key=harness.key)


async def poll(harness: Harness, ref: str, cursor: str | None = None) -> ProviderReport:
    """As the job core polls."""
    return await harness.provider.poll(ref, key=harness.key, cursor=cursor)


def word_for(harness: Harness, status: ReportedStatus) -> str:
    """A word of the vendor that means this."""
    return next(word for word, meaning in sorted(harness.meanings.items()) if meaning == status)
