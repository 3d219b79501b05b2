"""Hugging Face Jobs: the real huggingface_hub against the fake, over loopback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from huggingface_hub import JobStage
from pydantic import SecretStr

from shared.keys.store import OpenedKey
from shared.providers.base import ReportedStatus
from shared.providers.huggingface import LABEL, HuggingFaceProvider
from shared.training.spec import RunSpec
from tests.fakes.http import Fault
from tests.fakes.huggingface import FakeHuggingFace
from tests.shared.providers.harness import CHAT_FILE, NOBODY, Harness, run_spec

OPERATIONS = frozenset({"create", "list", "poll", "cancel", "check"})
IMAGE = "registry.example/fineflow-trainer:1"


class HuggingFaceHarness:
    name = "huggingface"
    searchable = True
    vendor_statuses = frozenset(stage.value for stage in JobStage)
    meanings: ClassVar[dict[str, ReportedStatus]] = {
        "SCHEDULING": "queued",
        "RUNNING": "training",
        "COMPLETED": "completed",
        "CANCELED": "cancelled",
        "ERROR": "failed",
        "DELETED": "cancelled",
    }
    unknown_ref = "687f00000000000000000000"
    file = CHAT_FILE
    callback = NOBODY

    def __init__(self, fake: FakeHuggingFace, timeout_seconds: float) -> None:
        self.fake = fake
        self.provider = HuggingFaceProvider(image=IMAGE, endpoint=fake.url, timeout_seconds=timeout_seconds)
        self.key = OpenedKey(SecretStr(fake.api_key))

    def spec(self) -> RunSpec:
        return run_spec("Qwen/Qwen3-0.6B", method="lora", gpu="l4x1")

    def runs(self) -> list[str]:
        return list(self.fake.jobs)

    def add_run(self, idempotency_key: str) -> str:
        asked = {"dockerImage": IMAGE, "command": ["true"], "flavor": "t4-small"}
        return self.fake.add(asked | {"labels": {LABEL: idempotency_key}})

    def set_status(self, ref: str, word: str) -> None:
        self.fake.set_stage(ref, word)

    def status_of(self, ref: str) -> str:
        return str(self.fake.jobs[ref].body["status"]["stage"])

    def disturb(self, operation: str, *faults: Fault) -> None:
        self.fake.disturb(operation, *faults)

    def refusal(self, status: int, message: str) -> Fault:
        return Fault(status=status, body=self.fake.error(status, message))

    def calls(self, operation: str) -> int:
        return self.fake.calls[operation]


@contextmanager
def harness(tmp_path: Path, timeout_seconds: float) -> Iterator[Harness]:
    with FakeHuggingFace() as fake:
        yield HuggingFaceHarness(fake, timeout_seconds)
