"""OpenAI's provider against the loopback fake of OpenAI."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, get_args

from openai.types.fine_tuning import FineTuningJob
from pydantic import SecretStr

from shared.keys.store import OpenedKey
from shared.providers.base import ReportedStatus
from shared.providers.openai import OpenAIProvider
from shared.training.spec import RunSpec
from tests.fakes.http import Fault
from tests.fakes.openai import FakeOpenAI
from tests.shared.providers.harness import ALL_OPERATIONS, CHAT_FILE, NOBODY, run_spec

OPERATIONS = ALL_OPERATIONS
BASE = "gpt-4.1-mini-2025-04-14"


class OpenAIHarness:
    name = "openai"
    searchable = True
    vendor_statuses: frozenset[str] = frozenset(get_args(FineTuningJob.model_fields["status"].annotation))
    meanings: ClassVar[dict[str, ReportedStatus]] = {
        "validating_files": "validating",
        "queued": "queued",
        "running": "training",
        "succeeded": "completed",
        "failed": "failed",
        "cancelled": "cancelled",
    }
    unknown_ref = "ftjob-0000000000000000000000"
    file = CHAT_FILE
    callback = NOBODY

    def __init__(self, fake: FakeOpenAI, timeout_seconds: float) -> None:
        self.fake = fake
        self.provider = OpenAIProvider(allow_private_addresses=True, timeout_seconds=timeout_seconds)
        self.key = OpenedKey(SecretStr(fake.api_key), base_url=fake.base_url)

    def spec(self) -> RunSpec:
        return run_spec(BASE)

    def runs(self) -> list[str]:
        return list(self.fake.vendor.jobs)

    def add_run(self, idempotency_key: str) -> str:
        file = self.fake.vendor.add_file(f"{idempotency_key}-x.jsonl", CHAT_FILE.content, "fine-tune")
        asked = {
            "model": BASE,
            "training_file": file["id"],
            "metadata": {"fineflow_job": idempotency_key, "fineflow_attempt": "1"},
        }
        return str(self.fake.vendor.create(asked).body["id"])

    def set_status(self, ref: str, word: str) -> None:
        self.fake.set_status(ref, word)

    def status_of(self, ref: str) -> str:
        return str(self.fake.vendor.jobs[ref].body["status"])

    def disturb(self, operation: str, *faults: Fault) -> None:
        self.fake.disturb(operation, *faults)

    def refusal(self, status: int, message: str) -> Fault:
        return Fault(status=status, body=self.fake.error(status, message))

    def calls(self, operation: str) -> int:
        return self.fake.calls[operation]


@contextmanager
def harness(tmp_path: Path, timeout_seconds: float) -> Iterator[OpenAIHarness]:
    with FakeOpenAI() as fake:
        yield OpenAIHarness(fake, timeout_seconds)
