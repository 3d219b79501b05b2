"""The model goes to Storage before the disk that it lies on goes away.

All that lies in `artifact/` goes, and `adapter/` beside it. The adapter alone would be a hundredth of it, but
who fetched it would need the base model, at its commit and perhaps behind a licence, and would have to merge
anew; so what is served later is, byte for byte, what was trained, measured and fingerprinted here.
"""

from __future__ import annotations

from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

import httpx

from modal_app.session.delivery import ClaimLost, Delivery, Refused, Unreachable, is_loopback
from modal_app.session.directory import RunDirectory
from modal_app.session.failures import RunFailed
from modal_app.session.patience import Patience
from modal_app.session.pieces import SEND_TIMEOUT_SECONDS, SENT_AT_ONCE, Piece, Sender, TooLarge, listed
from modal_app.session.reporter import Reporter
from modal_app.session.stop import StopReason, StopSignal
from shared.log import logger
from shared.training.model_files import ModelFiles, shown_bytes
from shared.training.spec import Callback, ModelPlaces, ReportBatch, RunResult, RunSpec, TrainerReport

_ASK_TIMEOUT_SECONDS = 60.0

log = logger("trainer")


def store(
    result: RunResult, directory: RunDirectory, spec: RunSpec, reporter: Reporter, stop: StopSignal
) -> RunResult:
    """The result with the place of its model in Storage; as it is where the disk lasts.

    A trainer that comes after this one finds the model trained, and sends what is missing. Raises Stopped,
    ClaimLost, and RunFailed with the model and its checkpoints still here.
    """
    callback = directory.callback()
    if callback is None or not callback.stores_model:
        return result
    directory.keep_trained(result.model_copy(update={"artifact_path": None}))
    reporter.say("Reading the model for its upload")
    files, pieces, left_out = listed(directory.path, stop)
    if left_out:
        reporter.event(
            f"Not taken to Storage: {', '.join(left_out)[:1000]}.", level="warning", files=left_out[:100]
        )
    with _Upload(callback, spec, files, pieces, reporter, stop) as upload:
        path = upload.run()
    reporter.event(f"The model is in Storage: {files.size_bytes} bytes.", bytes=files.size_bytes)
    return result.model_copy(update={"artifact_path": path})


class _Upload:
    def __init__(
        self,
        callback: Callback,
        spec: RunSpec,
        files: ModelFiles,
        pieces: dict[str, Piece],
        reporter: Reporter,
        stop: StopSignal,
    ) -> None:
        self._spec, self._files, self._pieces = spec, files, pieces
        self._reporter, self._stop = reporter, stop
        self._done_bytes = 0
        self._delivery = Delivery(callback, timeout_seconds=_ASK_TIMEOUT_SECONDS)
        self._client = httpx.Client(timeout=SEND_TIMEOUT_SECONDS, trust_env=not is_loopback(callback.url))
        self._sender = Sender(self._client, stop, self._more)

    def __enter__(self) -> _Upload:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._delivery.__exit__(None, None, None)

    def run(self) -> str:
        """The place of the model, all of which is there."""
        patience = Patience(
            self._stop, code="model_not_stored", what="the trained model could not be brought to Storage"
        )
        least_missing = self._files.size_bytes + 1
        while True:
            self._stop.check()
            try:
                asked = self._ask()
            except Unreachable as trouble:
                patience.wait(f"report-training does not answer: {trouble}")
                continue
            if asked.artifact_path:
                return asked.artifact_path
            self._done_bytes = self._files.size_bytes - asked.missing_bytes
            if asked.missing_bytes < least_missing:
                least_missing = asked.missing_bytes
                patience.renew()
            else:
                patience.wait("Storage takes no piece of it")
            self._send(asked)

    def _ask(self) -> ModelPlaces:
        # A batch has a report; the number 1 was stored long ago, and its receipt is what is wanted.
        batch = ReportBatch(
            attempt=self._spec.attempt,
            run_id=self._spec.run_id,
            reports=[TrainerReport(seq=1, kind="claim")],
            model_files=self._files,
        )
        try:
            receipt = self._delivery.post(batch)
        except ClaimLost:
            self._stop.request(StopReason.CLAIM_LOST)
            raise
        except Refused as refusal:
            known = refusal.code == "artifact_too_large"
            raise RunFailed(
                refusal.code if known else "model_not_stored",
                refusal.told if known else f"The trained model is not taken to Storage: {refusal}.",
            ) from refusal
        if receipt.cancel_requested:
            self._stop.request(StopReason.CANCELLED)
            self._stop.check()
        if receipt.model_places is None:
            raise RunFailed("model_not_stored", "report-training is older than the trainer: update it.")
        return receipt.model_places

    def _send(self, asked: ModelPlaces) -> None:
        """Every piece that has a place was tried."""
        with ThreadPoolExecutor(SENT_AT_ONCE, thread_name_prefix="upload") as threads:
            sending = [
                threads.submit(self._sender.send, self._pieces[place.sha256], place.url)
                for place in asked.places
                if place.sha256 in self._pieces
            ]
            done, waiting = wait(sending, return_when=FIRST_EXCEPTION)
            for late in waiting:
                late.cancel()
        try:
            refused = sum(not each.result() for each in done)
        except TooLarge as error:
            raise RunFailed(
                "artifact_too_large",
                "Storage refuses a piece of the model for its size. Raise the file size limits of the project"
                " and of the bucket models to 40 MiB, and start the job again.",
            ) from error
        if refused:
            log.warning("pieces_not_taken", count=refused)

    def _more(self, more_bytes: int) -> None:
        self._done_bytes += more_bytes
        done = max(0, min(self._done_bytes, self._files.size_bytes))
        self._reporter.say(f"Uploading model, {shown_bytes(done, self._files.size_bytes)}")
