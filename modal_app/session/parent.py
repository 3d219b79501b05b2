"""The model that this run starts from, where it is one of the project: brought here, or found where it lies.

Only `artifact/` is wanted, which is whole: adapters were merged into it when it was saved. From Storage it
comes by addresses that report-training signs for who has the claim, few at a time, so that none expires in a
queue or behind a large model.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from modal_app.session.delivery import ClaimLost, Delivery, Refused, Unreachable, is_loopback
from modal_app.session.directory import RunDirectory
from modal_app.session.failures import RunFailed
from modal_app.session.patience import Patience
from modal_app.session.reporter import Reporter
from modal_app.session.stop import StopReason, StopSignal
from modal_app.settings import machine
from shared.errors import FineFlowError
from shared.models.fetching import fetch, files_of
from shared.models.stored import StoredModel, stored
from shared.training.model_files import ModelFiles, shown_bytes
from shared.training.spec import MOST_BASE_PIECES, Callback, ReportBatch, RunSpec, TrainerReport

FETCH_TIMEOUT_SECONDS = 60.0  # without a byte
REFUSALS = 3  # of one piece, each at a new address, until it is taken for gone
_ASK_TIMEOUT_SECONDS = 60.0


def bring(spec: RunSpec, directory: RunDirectory, reporter: Reporter, stop: StopSignal) -> None:
    """The base model can be loaded from `directory.base_source(spec)`, if it is one of the project.

    What a trainer before this one brought is not fetched again. Raises Stopped, ClaimLost, and RunFailed.
    """
    if spec.parent is None:
        return
    model = stored(spec.parent.artifact_path)
    if model is None:
        _require_run_of_this_disk(Path(spec.parent.artifact_path))
    elif not directory.base.is_dir():
        _fetched(model, spec, directory, reporter, stop)


def _require_run_of_this_disk(artifact: Path) -> None:
    runs = machine().data_dir.resolve() / "runs"
    found = artifact.resolve()
    if not (found.is_relative_to(runs) and (found / "config.json").is_file()):
        raise RunFailed(
            "base_model_unavailable",
            f"{artifact} is no finished model of a run on this disk: it was deleted, or trained elsewhere.",
        )


def _fetched(
    model: StoredModel, spec: RunSpec, directory: RunDirectory, reporter: Reporter, stop: StopSignal
) -> None:
    callback = directory.callback()
    if callback is None:
        raise RunFailed(
            "base_model_unavailable",
            "The base model lies in Storage, and nobody is named who signs addresses to fetch it.",
        )
    reporter.say("Fetching base model")
    told = _Telling(reporter)
    try:
        with _Signed(callback, spec, stop) as source:
            asyncio.run(_fetch(model, source, directory.base, told))
    except RunFailed:
        raise
    except FineFlowError as error:
        raise RunFailed(error.code, f"The base model cannot be fetched. {error.message}") from error
    reporter.event(f"The base model is here: {told.total_bytes} bytes.", bytes=told.total_bytes)


async def _fetch(model: StoredModel, source: _Signed, target: Path, told: _Telling) -> None:
    whole = await files_of(model, source.bring)
    wanted = ModelFiles(files=tuple(file for file in whole.files if file.name.startswith("artifact/")))
    source.expect(list(wanted.pieces()))
    await fetch(model, source.bring, target, files=wanted, told=told)


class _Telling:
    """Says how far it is."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self.total_bytes = 0

    def __call__(self, done: int, total: int) -> None:
        self.total_bytes = total
        self._reporter.say(f"Fetching base model, {shown_bytes(done, total)}")


class _Signed:
    """Pieces by signed addresses. What broke is tried again, and an expired address is asked for anew."""

    def __init__(self, callback: Callback, spec: RunSpec, stop: StopSignal) -> None:
        self._spec, self._stop = spec, stop
        self._patience = Patience(
            stop, code="base_model_unavailable", what="the base model could not be fetched from Storage"
        )
        self._expected: list[str] = []  # pieces in the order in which they will be wanted
        self._urls: dict[str, str] = {}  # by sha256
        self._delivery = Delivery(callback, timeout_seconds=_ASK_TIMEOUT_SECONDS)
        self._client = httpx.Client(timeout=FETCH_TIMEOUT_SECONDS, trust_env=not is_loopback(callback.url))

    def __enter__(self) -> _Signed:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._delivery.__exit__(None, None, None)

    def expect(self, pieces: list[str]) -> None:
        """These will be wanted, in this order: addresses are asked for several at a time."""
        self._expected = pieces

    async def bring(self, sha256: str, target: Path) -> None:
        """A `fetching.Source`. Nothing else runs in this loop, so it may wait where it stands."""
        refusals = 0
        while True:
            self._stop.check()
            url = self._urls.get(sha256)
            if url is None:
                url = self._ask(sha256)
            try:
                if self._download(url, target):
                    self._patience.renew()
                    return
            except httpx.HTTPError as error:
                self._patience.wait(f"a piece broke off: {type(error).__name__}")
                continue
            self._urls.clear()  # they were signed together
            refusals += 1
            if refusals == REFUSALS:
                raise _gone()

    def _download(self, url: str, target: Path) -> bool:
        """False: the address does not work (any more). Raises HTTPError where it may yet work, Stopped."""
        with self._client.stream("GET", url) as response:
            if response.is_client_error and response.status_code != httpx.codes.TOO_MANY_REQUESTS:
                return False
            response.raise_for_status()
            with target.open("wb") as file:
                for block in response.iter_bytes():
                    self._stop.check()
                    file.write(block)
        return True

    def _ask(self, sha256: str) -> str:
        """An address of this piece; those of the next ones are kept."""
        wanted = [sha256]
        if sha256 in self._expected:
            at = self._expected.index(sha256)
            wanted = self._expected[at : at + MOST_BASE_PIECES]
        # A batch has a report; the number 1 was stored long ago, and its receipt is what is wanted.
        batch = ReportBatch(
            attempt=self._spec.attempt,
            run_id=self._spec.run_id,
            reports=[TrainerReport(seq=1, kind="claim")],
            base_pieces=wanted,
        )
        while True:
            self._stop.check()
            try:
                receipt = self._delivery.post(batch)
            except Unreachable as trouble:
                self._patience.wait(f"report-training does not answer: {trouble}")
                continue
            except ClaimLost:
                self._stop.request(StopReason.CLAIM_LOST)
                raise
            except Refused as refusal:
                raise RunFailed(
                    refusal.code or "base_model_unavailable", refusal.told or str(refusal)
                ) from refusal
            if receipt.cancel_requested:
                self._stop.request(StopReason.CANCELLED)
                self._stop.check()
            self._urls = {place.sha256: place.url for place in receipt.base_places}
            if sha256 not in self._urls:
                raise RunFailed(
                    "base_model_unavailable", "report-training is older than the trainer: update it."
                )
            return self._urls[sha256]


def _gone() -> RunFailed:
    return RunFailed(
        "base_model_gone",
        "Storage refuses a piece of the base model at every new address: it is gone. Train that model again.",
    )
