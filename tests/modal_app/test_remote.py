"""A trainer that comes with a ticket only: it claims, fetches its work, trains, and says how it ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4, uuid5

import pytest
from pydantic import SecretStr

from modal_app import remote
from shared.training.spec import RunResult, RunState, Ticket, TrainerExit
from tests.modal_app import trainers
from tests.modal_app.endpoint import Endpoint
from tests.modal_app.trainers import Pair, Trainer, until

LONG = trainers.facts(40)
Call = Callable[..., Trainer]


def work_for(callback: Endpoint, data_dir: Path, pairs: list[Pair], **config: Any) -> Ticket:
    """A ticket for a job that waits at the endpoint."""
    run_dir = trainers.new_run(data_dir, pairs, **config)
    spec = trainers.spec(run_dir)
    callback.spec, callback.rows = spec, (run_dir / "train.jsonl").read_bytes()
    if spec.validation:
        callback.held_out = (run_dir / spec.validation.name).read_bytes()
    shutil.rmtree(run_dir)
    return Ticket(
        report_url=callback.url,
        token=SecretStr("canary-token"),
        job_id=spec.job_id,
        attempt=spec.attempt,
        run_id=uuid4(),
    )


def train(ticket: dict[str, str], data_dir: Path, answer: Path, provider_job_id: str) -> None:
    """As a Modal container calls it; `answer` holds what it returned."""

    def kept() -> None:
        run_dir = data_dir / "runs" / str(uuid5(UUID(ticket["run_id"]), provider_job_id))
        whole = [path.parent.name for path in run_dir.glob("checkpoints/*/manifest.json")]
        model = ["artifact"] if (run_dir / "artifact").exists() else []
        with answer.with_suffix(".kept").open("a") as file:
            file.write(f"{json.dumps(sorted(whole) + model)}\n")

    try:
        result = remote.train_remote(
            Ticket.model_validate(ticket), data_dir, provider_job_id=provider_job_id, kept=kept
        )
    except KeyboardInterrupt:
        sys.exit(TrainerExit.INTERRUPTED)
    answer.write_text(json.dumps(result))


@pytest.fixture
def call(libraries: ForkServerContext, data_dir: Path, tmp_path: Path) -> Call:
    """Starts a trainer with a ticket and returns at once."""

    def start(ticket: Ticket, provider_job_id: str = "fc-1") -> Trainer:
        run_dir = data_dir / "runs" / str(uuid5(ticket.run_id, provider_job_id))
        process = libraries.Process(
            target=train, args=(ticket.for_wire(), data_dir, tmp_path / provider_job_id, provider_job_id)
        )
        process.start()
        return Trainer(run_dir, process)

    return start


def answer(tmp_path: Path, provider_job_id: str = "fc-1") -> RunResult:
    return RunResult.model_validate_json((tmp_path / provider_job_id).read_text())


def error_code(result: RunResult) -> str | None:
    return result.error and result.error.code


def test_a_ticket_becomes_a_model(call: Call, callback: Endpoint, data_dir: Path, tmp_path: Path) -> None:
    held_out = trainers.supervised_rows(trainers.facts(2))
    ticket = work_for(callback, data_dir, trainers.facts(12), epochs=2, validation=held_out)
    trainer = call(ticket)
    assert trainer.wait() == TrainerExit.COMPLETED
    result = answer(tmp_path)
    assert result.state == RunState.COMPLETED
    assert Path(result.artifact_path or "", "model.safetensors").exists()
    assert callback.stored[-1].result == result
    assert result.metrics["validation_loss"] > 0
    assert callback.kinds.count("claim") == 1
    assert callback.provider_job_ids == ["fc-1"]
    assert callback.tokens == {"Bearer canary-token"}
    assert stat.S_IMODE((trainer.run_dir / "callback.json").stat().st_mode) == 0o600
    files = [path for path in trainer.run_dir.glob("*.json*") if path.name != "callback.json"]
    assert "canary" not in "".join(path.read_text() for path in files)


def test_what_must_outlive_the_machine_is_kept_at_each_checkpoint_and_at_the_end(
    call: Call, callback: Endpoint, data_dir: Path, tmp_path: Path
) -> None:
    assert call(work_for(callback, data_dir, LONG, epochs=1, save_steps=5)).wait() == TrainerExit.COMPLETED
    kept = [json.loads(line) for line in (tmp_path / "fc-1.kept").read_text().splitlines()]
    assert kept == [
        ["checkpoint-5"],
        ["checkpoint-10", "checkpoint-5"],
        ["checkpoint-10", "checkpoint-5", "artifact"],
    ]


def test_of_two_calls_with_one_ticket_one_trains(
    call: Call, callback: Endpoint, data_dir: Path, tmp_path: Path
) -> None:
    """As when Modal was asked twice because the first answer was lost."""
    ticket = work_for(callback, data_dir, LONG, epochs=3)
    first = call(ticket)
    until(lambda: callback.kinds)
    second = call(ticket, "fc-2")
    assert second.wait() == TrainerExit.COMPLETED  # the call returned, and says why
    assert error_code(answer(tmp_path, "fc-2")) == "claim_lost"
    assert not second.run_dir.exists()
    assert first.wait() == TrainerExit.COMPLETED
    assert answer(tmp_path).state == RunState.COMPLETED


def test_an_interrupted_call_goes_on_with_its_ticket(
    call: Call, callback: Endpoint, data_dir: Path, tmp_path: Path
) -> None:
    ticket = work_for(callback, data_dir, LONG, epochs=8, save_steps=5)
    trainer = call(ticket)
    trainer.wait_for_checkpoint()
    trainer.signal(signal.SIGINT)
    assert trainer.wait() == TrainerExit.INTERRUPTED
    assert not (tmp_path / "fc-1").exists()
    assert call(ticket).wait() == TrainerExit.COMPLETED
    assert answer(tmp_path).state == RunState.COMPLETED
    assert callback.downloads == 1
    assert any((report.message or "").startswith("Training goes on from step") for report in callback.stored)


def test_reports_go_on_in_a_container_that_lost_its_directory(
    call: Call, callback: Endpoint, data_dir: Path, tmp_path: Path
) -> None:
    ticket = work_for(callback, data_dir, LONG, epochs=8, save_steps=5)
    trainer = call(ticket)
    trainer.wait_for_checkpoint()
    trainer.signal(signal.SIGINT)
    assert trainer.wait() == TrainerExit.INTERRUPTED
    stored = callback.stored[-1].seq
    shutil.rmtree(trainer.run_dir)
    assert call(ticket).wait() == TrainerExit.COMPLETED
    later = [report.kind for report in callback.stored if report.seq > stored]
    assert later[-1] == "result"
    assert "event" in later


def test_modals_cancel_ends_the_run(call: Call, callback: Endpoint, data_dir: Path, tmp_path: Path) -> None:
    trainer = call(work_for(callback, data_dir, LONG, epochs=50, save_steps=5))
    trainer.wait_for_checkpoint()
    trainer.signal(signal.SIGUSR1)
    assert trainer.wait() == TrainerExit.COMPLETED
    assert answer(tmp_path).state == RunState.CANCELLED
    assert callback.stored[-1].result == answer(tmp_path)


@pytest.mark.parametrize(
    ("rows", "code"), [(b"{}\n", "dataset_mismatch"), (None, "dataset_missing")], ids=["other", "none"]
)
def test_the_job_learns_that_its_rows_did_not_arrive(
    call: Call, callback: Endpoint, data_dir: Path, tmp_path: Path, rows: bytes | None, code: str
) -> None:
    ticket = work_for(callback, data_dir, trainers.facts(8), epochs=1)
    callback.rows = rows
    assert call(ticket).wait() == TrainerExit.COMPLETED
    assert error_code(answer(tmp_path)) == code
    reported = callback.stored[-1].result
    assert reported
    assert error_code(reported) == code


def command(**variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "modal_app.remote"],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_who_comes_too_late_pays_for_no_torch(callback: Endpoint, data_dir: Path) -> None:
    ticket = work_for(callback, data_dir, trainers.facts(8), epochs=1)
    callback.owner = uuid4()
    done = command(
        FINEFLOW_REPORT_URL=ticket.report_url,
        FINEFLOW_TRAINER_TOKEN=ticket.token.get_secret_value(),
        FINEFLOW_JOB_ID=str(ticket.job_id),
        FINEFLOW_ATTEMPT="1",
        FINEFLOW_RUN_ID=str(ticket.run_id),
        FINEFLOW_DATA_DIR=str(data_dir),
        JOB_ID="hf-1",
    )
    assert done.returncode == TrainerExit.CLAIM_LOST, done.stderr[-2000:]
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "modal_app.session.delivery" in imported
    assert not imported & {"torch", "transformers", "trl", "peft", "datasets"}
    assert callback.downloads == 0
    assert "canary" not in done.stdout + done.stderr


def test_a_command_without_a_ticket_says_what_is_missing() -> None:
    done = command(FINEFLOW_REPORT_URL="http://127.0.0.1:9", FINEFLOW_ATTEMPT="none")
    assert done.returncode == TrainerExit.FAILED
    for name in ("FINEFLOW_TRAINER_TOKEN", "FINEFLOW_JOB_ID", "FINEFLOW_ATTEMPT", "FINEFLOW_RUN_ID"):
        assert name in done.stderr
