"""Together: the real SDK against the fake, over loopback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, get_args
from uuid import UUID, uuid4

from pydantic import SecretStr
from together.lib.types.fine_tuning import FinetuneJobStatus
from together.types.finetune_response import FinetuneResponse

from shared.keys.store import OpenedKey
from shared.providers.base import ReportedStatus
from shared.providers.together import TogetherProvider
from shared.training.spec import RunSpec
from tests.fakes.http import Fault
from tests.fakes.together import FakeTogether
from tests.fakes.together_state import MODELS
from tests.shared.providers.harness import CHAT_FILE, NOBODY, Harness, run_spec

OPERATIONS = frozenset({"create", "list", "upload", "poll", "cancel", "check", "delete"})


class TogetherHarness:
    name = "together"
    searchable = True
    # The SDK has two lists: that of the answer's type, and an older enum with one word more.
    vendor_statuses = frozenset(get_args(FinetuneResponse.model_fields["status"].annotation)) | {
        status.value for status in FinetuneJobStatus
    }
    meanings: ClassVar[dict[str, ReportedStatus]] = {
        "pending": "validating",
        "queued": "queued",
        "running": "training",
        "compressing": "training",
        "uploading": "training",
        "cancel_requested": "training",
        "cancelled": "cancelled",
        "error": "failed",
        "user_error": "failed",
        "completed": "completed",
    }
    unknown_ref = f"ft-{uuid4()}"
    file = CHAT_FILE
    callback = NOBODY

    def __init__(self, fake: FakeTogether, timeout_seconds: float) -> None:
        self.fake = fake
        self.provider = TogetherProvider(base_url=fake.url, timeout_seconds=timeout_seconds)
        self.key = OpenedKey(SecretStr(fake.api_key))

    def spec(self) -> RunSpec:
        return run_spec(MODELS[0], method="lora")

    def runs(self) -> list[str]:
        return list(self.fake.vendor.jobs)

    def add_run(self, idempotency_key: str) -> str:
        vendor = self.fake.vendor
        vendor.contents.setdefault("file-behind", self.file.content)
        asked = {"model": MODELS[0], "training_file": "file-behind", "n_epochs": 3}
        return str(vendor.create(asked | {"suffix": UUID(idempotency_key).hex}).body["id"])

    def set_status(self, ref: str, word: str) -> None:
        self.fake.vendor.set_status(ref, word)

    def status_of(self, ref: str) -> str:
        return str(self.fake.vendor.job(ref).body["status"])

    def disturb(self, operation: str, *faults: Fault) -> None:
        self.fake.disturb(operation, *faults)

    def refusal(self, status: int, message: str) -> Fault:
        return Fault(status=status, body=self.fake.error(status, message))

    def calls(self, operation: str) -> int:
        return self.fake.calls[operation]


@contextmanager
def harness(tmp_path: Path, timeout_seconds: float) -> Iterator[Harness]:
    with FakeTogether() as fake:
        yield TogetherHarness(fake, timeout_seconds)
