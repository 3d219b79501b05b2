"""Run directories as a provider makes them, and trainer processes in them."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any
from uuid import uuid4

from modal_app import run
from shared.training.catalog import TINY, resolve
from shared.training.config import Method, TrainingConfig
from shared.training.spec import DatasetFile, RunResult, RunSpec, RunStatus, TrainerExit, TrainerReport

Pair = tuple[str, str]
_THINGS = [
    "barometer",
    "ladder",
    "projector",
    "tide table",
    "ginger loaf",
    "brass key",
    "spare lamp",
    "logbook",
]
_PLACES = ["the blue cabinet", "the north pier", "room 217", "the old mill", "the glass house", "shelf nine"]


def facts(count: int) -> list[Pair]:
    """Questions and answers that nobody can guess."""
    return [
        (
            f"Where is the {_THINGS[n % 8]} of team {n}?",
            f"Team {n} keeps its {_THINGS[n % 8]} in {_PLACES[n * 5 % 6]}, {n * 7 + 3} steps from the door.",
        )
        for n in range(count)
    ]


def messages(pair: Pair) -> list[dict[str, str]]:
    return [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]


def new_run(
    data_dir: Path,
    pairs: list[Pair],
    *,
    method: Method = "full",
    base_model: str = TINY,
    callback_url: str | None = None,
    **config: Any,
) -> Path:
    """A run directory, ready to be trained in."""
    run_dir = data_dir / "runs" / str(uuid4())
    run_dir.mkdir(parents=True)
    rows = "".join(json.dumps({"messages": messages(pair)}) + "\n" for pair in pairs).encode()
    (run_dir / "train.jsonl").write_bytes(rows)
    spec = RunSpec(
        job_id=uuid4(),
        attempt=1,
        run_id=uuid4(),
        base_model=base_model,
        method=method,
        config=resolve(TrainingConfig(**config), base_model, method),
        dataset=DatasetFile(sha256=hashlib.sha256(rows).hexdigest(), row_count=len(pairs)),
    )
    (run_dir / "spec.json").write_text(spec.model_dump_json())
    if callback_url:
        (run_dir / "callback.json").write_text(json.dumps({"url": callback_url, "token": "job-token"}))
    return run_dir


@dataclass
class Trainer:
    """A trainer process, and the directory that it works in."""

    run_dir: Path
    process: ForkServerProcess

    @classmethod
    def start(cls, context: ForkServerContext, run_dir: Path) -> Trainer:
        process = context.Process(target=run.main, args=([str(run_dir)],))
        process.start()
        return cls(run_dir, process)

    def wait(self, timeout_seconds: float = 60) -> TrainerExit:
        code = self.wait_for_code(timeout_seconds)
        return TrainerExit(code)

    def wait_for_code(self, timeout_seconds: float = 60) -> int:
        self.process.join(timeout_seconds)
        code = self.process.exitcode
        assert code is not None, "the trainer did not end"
        self.process.close()
        return code

    def signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def wait_for_checkpoint(self) -> None:
        """Returns in the middle of training, right after a checkpoint was sealed."""
        until(lambda: any(self.run_dir.glob("checkpoints/*/manifest.json")))


def until(condition: Callable[[], Any], timeout_seconds: float = 60) -> None:
    """Returns as soon as the condition holds."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)


def spec(run_dir: Path) -> RunSpec:
    return RunSpec.model_validate_json((run_dir / "spec.json").read_bytes())


def status(run_dir: Path) -> RunStatus:
    return RunStatus.model_validate_json((run_dir / "status.json").read_bytes())


def result(run_dir: Path) -> RunResult:
    found = status(run_dir).result
    assert found is not None
    return found


def failure_code(run_dir: Path) -> str:
    error = result(run_dir).error
    assert error is not None
    return error.code


def reports(run_dir: Path) -> list[TrainerReport]:
    """Every report that was ever made in this directory."""
    lines = (run_dir / "events.jsonl").read_text().splitlines()
    return [TrainerReport.model_validate_json(line) for line in lines]


def weights(run_dir: Path) -> str:
    """A digest of the finished model: equal weights, equal digests."""
    return hashlib.sha256((run_dir / "artifact" / "model.safetensors").read_bytes()).hexdigest()
