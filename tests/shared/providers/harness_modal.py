"""Modal's harness: its control plane on loopback, with a function that never ends by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modal_proto import api_pb2
from pydantic import SecretStr

from shared.providers.base import ReportedStatus
from shared.providers.modal import ModalProvider
from shared.training.catalog import TINY, resolve
from shared.training.config import TrainingConfig
from shared.training.spec import RunResult, RunSpec, RunState
from tests.fakes.http import Fault
from tests.fakes.modal import TOKEN_ID, TOKEN_SECRET, FakeModal
from tests.shared.providers.harness import CHAT_FILE, NOBODY, Harness, run_spec

OPERATIONS = frozenset({"create", "poll", "cancel"})
STATUSES = api_pb2.GenericResult.GenericStatus
UNFINISHED = "unfinished"  # no output yet
MEANINGS: dict[str, ReportedStatus] = {
    UNFINISHED: "queued",
    "GENERIC_STATUS_UNSPECIFIED": "training",
    "GENERIC_STATUS_SUCCESS": "completed",
    "GENERIC_STATUS_FAILURE": "failed",
    "GENERIC_STATUS_TERMINATED": "cancelled",
    "GENERIC_STATUS_TIMEOUT": "failed",
    "GENERIC_STATUS_INIT_FAILURE": "failed",
    "GENERIC_STATUS_INTERNAL_FAILURE": "failed",
    "GENERIC_STATUS_IDLE_TIMEOUT": "failed",
    "GENERIC_STATUS_MEMORY_MANAGER_EVICTION": "failed",
    "GENERIC_STATUS_MEMORY_THRASHING_EVICTION": "failed",
    "GENERIC_STATUS_KERNEL_OOM_KILL": "failed",
}


class ModalHarness:
    name = "modal"
    key = None
    deployment_secret = TOKEN_SECRET
    searchable = False
    vendor_statuses = frozenset({*STATUSES.keys(), UNFINISHED})
    meanings = MEANINGS
    unknown_ref = "fc-nobody"
    file = CHAT_FILE
    callback = NOBODY

    def __init__(self, fake: FakeModal, timeout_seconds: float) -> None:
        self.fake = fake
        self.provider = ModalProvider(
            token_id=SecretStr(TOKEN_ID),
            token_secret=SecretStr(TOKEN_SECRET),
            server_url=fake.url,
            timeout_seconds=timeout_seconds,
        )

    def spec(self) -> RunSpec:
        return run_spec(TINY, config=resolve(TrainingConfig(), TINY, "full"), gpu="L4")

    def runs(self) -> list[str]:
        return list(self.fake.runs)

    def add_run(self, idempotency_key: str) -> str:
        raise NotImplementedError("Modal's calls have no name to be found by")

    def set_status(self, ref: str, word: str) -> None:
        """A word that is not Modal's is a number that is not Modal's."""
        if word == UNFINISHED:
            self.fake.runs[ref].result = None
            return
        result = RunResult(state=RunState.COMPLETED, artifact_path="/models/x").model_dump(mode="json")
        status = STATUSES.Value(word) if word in STATUSES.keys() else 99  # noqa: SIM118 - not a dict
        succeeded = status == STATUSES.Value("GENERIC_STATUS_SUCCESS")
        self.fake.end(ref, status, value=result if succeeded else None, exception="" if succeeded else word)

    def status_of(self, ref: str) -> str:
        result = self.fake.runs[ref].result
        return STATUSES.Name(result.status) if result else UNFINISHED

    def disturb(self, operation: str, *faults: Fault) -> None:
        self.fake.disturb(operation, *faults)

    def refusal(self, status: int, message: str) -> Fault:
        return Fault(status=status, body={"error": {"message": message}})

    def calls(self, operation: str) -> int:
        return self.fake.calls[operation]


@contextmanager
def harness(tmp_path: Path, timeout_seconds: float) -> Iterator[Harness]:
    with FakeModal({("fineflow", "train"): None}) as fake:
        yield ModalHarness(fake, timeout_seconds)
        assert fake.unimplemented == []
