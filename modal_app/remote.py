"""The trainer in a container that is rented: it comes with a ticket, and fetches its work with the claim.

`train_remote` is called in a Modal container. `python -m modal_app.remote` finds the same ticket in its
environment, for Hugging Face Jobs, and ends with a `TrainerExit`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID, uuid5

import httpx
import stamina
from pydantic import ValidationError

from modal_app import run
from modal_app.session.delivery import ClaimLost, Delivery, Refused, Unreachable, is_loopback
from modal_app.session.directory import RunDirectory
from modal_app.session.failures import RunFailed
from modal_app.settings import machine
from shared import log as logs
from shared.training.spec import (
    Callback,
    DatasetFile,
    ReportBatch,
    RunResult,
    Ticket,
    TrainerExit,
    TrainerReport,
    TrainerWork,
)

CLAIM_PATIENCE_SECONDS = 300.0
_CLAIM_TIMEOUT_SECONDS = 120.0  # the other side builds and uploads the training file meanwhile
_DOWNLOAD_TIMEOUT_SECONDS = 60.0  # without a byte
_ENVIRONMENT = {
    "report_url": "FINEFLOW_REPORT_URL",
    "token": "FINEFLOW_TRAINER_TOKEN",
    "job_id": "FINEFLOW_JOB_ID",
    "attempt": "FINEFLOW_ATTEMPT",
    "run_id": "FINEFLOW_RUN_ID",
}
log = logs.logger("trainer")


def train_remote(
    ticket: Ticket,
    data_dir: Path,
    *,
    provider_job_id: str | None = None,
    kept: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """How the run ended: a RunResult as JSON values. A trainer that does not get the job says claim_lost.

    `provider_job_id` is what the provider calls this run, the same after each interruption. `kept` is called
    when something lies in the data directory that must not be lost with this machine. Raises
    KeyboardInterrupt when this process was told to go: a checkpoint is saved, and the same ticket goes
    on from it. Modal puts a call that ends so back into its queue.
    """
    code, result = _train(ticket, data_dir, provider_job_id, kept)
    if code == TrainerExit.INTERRUPTED and result.error is None:
        raise KeyboardInterrupt("The trainer was told to stop; its checkpoint is saved.")
    return result.model_dump(mode="json")


def _train(
    ticket: Ticket,
    data_dir: Path,
    provider_job_id: str | None,
    kept: Callable[[], None] = lambda: None,
) -> tuple[TrainerExit, RunResult]:
    callback = Callback(url=ticket.report_url, token=ticket.token)
    # A start that was sent twice has one ticket and two runs: only one of them may have the claim.
    run_id = uuid5(ticket.run_id, provider_job_id) if provider_job_id else ticket.run_id
    try:
        work = _claim(callback, ticket.attempt, run_id, provider_job_id)
    except (ClaimLost, Refused, Unreachable) as trouble:
        log.warning("not_claimed", job_id=str(ticket.job_id), cause=type(trouble).__name__)
        return run.not_claimed(trouble)
    run_dir = data_dir / "runs" / str(run_id)
    _fill(run_dir, work, callback)
    code = run.train(run_dir, kept=kept)
    if code == TrainerExit.CLAIM_LOST:
        return run.not_claimed(ClaimLost())
    result = RunDirectory(run_dir).result()
    assert result is not None, "a trainer that ends writes its result"
    return code, result


def _claim(callback: Callback, attempt: int, run_id: UUID, provider_job_id: str | None) -> TrainerWork:
    """The work of the job that is ours now. Raises ClaimLost, Refused, or Unreachable when patience ends."""
    batch = ReportBatch(
        attempt=attempt,
        run_id=run_id,
        reports=[TrainerReport(seq=1, kind="claim")],
        want_work=True,
        provider_job_id=provider_job_id,
    )
    with Delivery(callback, timeout_seconds=_CLAIM_TIMEOUT_SECONDS) as delivery:
        for attempted in stamina.retry_context(
            on=Unreachable, attempts=None, timeout=CLAIM_PATIENCE_SECONDS, wait_initial=0.5, wait_max=8
        ):
            with attempted:
                receipt = delivery.post(batch)
    if receipt.work is None:
        raise Refused(
            "the claim was taken, but no work came with it: report-training is older than the trainer"
        )
    return receipt.work


def _fill(run_dir: Path, work: TrainerWork, callback: Callback) -> None:
    """The directory is as a provider makes it for a trainer of its own machine."""
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "spec.json").write_text(work.spec.model_dump_json(indent=2))
    secret = run_dir / "callback.json"
    secret.touch(mode=0o600)
    token = callback.token.get_secret_value()
    secret.write_text(json.dumps({"url": callback.url, "token": token, "stores_model": work.stores_model}))
    _fetch(work.spec.dataset, work.dataset_url, run_dir)
    if work.spec.validation and work.validation_url:
        _fetch(work.spec.validation, work.validation_url, run_dir)


def _fetch(dataset: DatasetFile, url: str, run_dir: Path) -> None:
    """The rows lie in the directory, if they could be had: what is missing the trainer itself says."""
    try:
        RunDirectory(run_dir).dataset(dataset)
    except RunFailed:  # not there yet, or only a part of it
        try:
            _download(url, run_dir / Path(dataset.name).name)
        except httpx.HTTPError as error:
            log.error("dataset_not_downloaded", file=dataset.name, cause=type(error).__name__)


@stamina.retry(on=httpx.HTTPError, attempts=4, timeout=300)
def _download(url: str, path: Path) -> None:
    """The file is there, whole. Whether it is the right one, the trainer checks by its sha256."""
    draft = path.with_suffix(".part")
    with (
        httpx.Client(timeout=_DOWNLOAD_TIMEOUT_SECONDS, trust_env=not is_loopback(url)) as client,
        client.stream("GET", url) as response,
        draft.open("wb") as file,
    ):
        response.raise_for_status()
        for block in response.iter_bytes():
            file.write(block)
    draft.replace(path)


def ticket_of(environment: dict[str, str]) -> Ticket:
    """The ticket in these variables. Raises ValidationError naming what is missing."""
    return Ticket.model_validate(
        {field: environment[name] for field, name in _ENVIRONMENT.items() if name in environment}
    )


def main() -> NoReturn:
    """The command line. Ends the process."""
    logs.configure()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        ticket = ticket_of(dict(os.environ))
    except ValidationError as error:
        wrong = [_ENVIRONMENT[str(fault["loc"][0])] for fault in error.errors()]
        log.error("no_ticket", variables_missing_or_wrong=wrong)
        sys.exit(TrainerExit.FAILED)
    os.environ.pop(_ENVIRONMENT["token"])  # no library needs to see it
    try:
        code, _ = _train(ticket, machine().data_dir, os.environ.get("JOB_ID"))
    except KeyboardInterrupt:
        code = TrainerExit.INTERRUPTED
    sys.exit(code)


if __name__ == "__main__":
    main()
