"""Works through the files of an import until they are read or the time is up.

Each step stores pairs and the place of reading behind them, at once and under a lease that is kept alive. A
call that is killed loses the batch in its hands; the next one passes over what comes before the place.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from shared.db import APIError, Database, Row
from shared.errors import CallerError, NotFound, ServiceUnavailable
from shared.imports.options import ImportOptions
from shared.imports.process import BATCH_ROWS, Batch, ReaderDied, RowReader
from shared.imports.report import Failure, failure_of, import_report, listed_a_rule
from shared.imports.stream import Pages, Validating
from shared.log import logger
from shared.storage import Storage

BUCKET = "uploads"
BUDGET_SECONDS = 45.0  # under the 60 s that a row event waits for a function
_LEASE_SECONDS = 60
_RENEW_SECONDS = 15.0
_OUTAGE_SECONDS = 10  # until another call may try, when the database or the storage was away
_MAX_ATTEMPTS = 4  # calls in a row that stored nothing
_DISCARDED_AT_ONCE = 20_000
_readers = asyncio.Semaphore(2)  # in this process; an import that finds no place is left to the schedule

Validate = Callable[[Row, Pages | None], Awaitable[dict[str, Any]]]
_log = logger("imports")


class _LeaseLost(Exception):
    """Somebody else works on the import now."""


class _TimeUp(Exception):
    """The rest is for another call."""


async def work_on_import(
    db: Database,
    storage: Storage,
    dataset_id: UUID,
    validate: Validate,
    *,
    budget_seconds: float = BUDGET_SECONDS,
    batch_rows: int = BATCH_ROWS,
) -> Row:
    """The dataset's row afterwards: ready, failed without a pair, or still generating.

    validate: what validate-dataset answers for the dataset of this row, whose pairs come in these pages;
    None: it has to fetch them. After `budget_seconds`, and once something was stored, another call is asked
    for to go on. Raises ServiceUnavailable and NotFound.
    """
    if not _readers.locked():
        async with _readers:
            claimed: Row | None = await db.call(
                "claim_import", dataset_id=str(dataset_id), lease_seconds=_LEASE_SECONDS
            )
            if claimed is not None:
                await _Work(db, storage, validate, claimed, budget_seconds, batch_rows).run()
    dataset = await db.find("training_datasets", id=dataset_id)
    if dataset is None:
        raise NotFound(f"There is no dataset {dataset_id}.", code="dataset_not_found")
    return dataset


class _Work:
    """One claimed import."""

    def __init__(
        self,
        db: Database,
        storage: Storage,
        validate: Validate,
        claimed: Row,
        budget_seconds: float,
        batch_rows: int,
    ) -> None:
        self.db, self.storage, self.validate, self.claimed = db, storage, validate, claimed
        self.options = ImportOptions.model_validate(claimed["options"])
        self.files: list[Row] = claimed["files"]
        self.reports: list[Row] = claimed["reports"]
        self.lease = {"dataset_id": claimed["dataset_id"], "lease_token": claimed["lease_token"]}
        self.deadline = _now() + budget_seconds
        self.batch_rows = batch_rows
        self.has_stored = False
        self.validating: Validating | None = None  # None: a part of the pairs is not seen here

    async def run(self) -> None:
        """Reads on and ends the import, or hands it back."""
        try:
            async with self._kept_lease(), self._seen_whole():
                failure = self._problem() or await self._read_files()
                await (self._fail(failure) if failure else self._succeed())
        except _LeaseLost:
            pass
        except _TimeUp:
            await self._release(0, is_attempt=False)
        except ReaderDied as death:
            _log.warning("reader died", dataset=self.lease["dataset_id"], reason=str(death))
            await self._release(self._pause_seconds, is_attempt=True)
        except Exception as error:
            is_outage = isinstance(error, ServiceUnavailable)
            with contextlib.suppress(ServiceUnavailable):  # then the lease ends by itself
                await self._release(
                    _OUTAGE_SECONDS if is_outage else self._pause_seconds, is_attempt=not is_outage
                )
            raise

    @property
    def _pause_seconds(self) -> int:
        return int(5 * 2 ** self.claimed["attempts"])

    @property
    def is_given_up(self) -> bool:
        return bool(self.claimed["attempts"] > _MAX_ATTEMPTS)

    def _problem(self) -> Failure | None:
        """Why there is no use in reading."""
        if self.is_given_up and self.claimed["files_done"] < len(self.files):
            name = self.files[self.claimed["files_done"]]["name"]
            message = f"{name} was given up after {_MAX_ATTEMPTS} attempts. Split it, or write it as JSONL."
            return {"code": "file_too_hard", "message": message}
        uploaded = {file["path"]: file["version"] for file in self.claimed["uploaded"]}
        for file in self.files[self.claimed["files_done"] :]:
            if file["path"] is not None and uploaded.get(file["path"]) != file["version"]:
                what = "was replaced" if file["path"] in uploaded else "was deleted"
                message = f"{file['path']} {what} before it was read. Import it again."
                return {"code": "file_changed", "message": message}
        return None

    async def _read_files(self) -> Failure | None:
        """All are read. Returns why nothing comes of them."""
        try:
            listed = listed_a_rule(len(self.files))
            async with RowReader(self.options, listed_a_rule=listed, batch_rows=self.batch_rows) as reader:
                for number in range(self.claimed["files_done"], len(self.files)):
                    await self._read_file(reader, number)
        except CallerError as error:
            return {"code": error.code, "message": error.message}
        except APIError as error:
            _log.warning("pairs not stored", dataset=self.lease["dataset_id"], code=error.code)
            return {"code": "pairs_not_stored", "message": f"The database refused pairs: {error.message}"}
        return failure_of(self.reports, self.options)

    async def _read_file(self, reader: RowReader, number: int) -> None:
        state = self.claimed["state"] if number == self.claimed["files_done"] else {}
        is_refused = not self.options.skip_bad_rows and any(report["errors"] for report in self.reports)
        async with (
            self._local(self.files[number]) as path,
            contextlib.aclosing(reader.read(path, state=state, is_refused=is_refused)) as batches,
        ):
            async for batch in batches:
                await self._save(number, state.get("items", 0), batch)
                state = batch.state
                is_last = batch.report is not None and number + 1 == len(self.files)
                if _now() > self.deadline and self.has_stored and not is_last:
                    raise _TimeUp

    @contextlib.asynccontextmanager
    async def _local(self, file: Row) -> AsyncIterator[Path]:
        """The file on this machine, under its name, for as long as the block runs."""
        with tempfile.TemporaryDirectory(prefix="fineflow-import-") as directory:
            path = Path(directory) / file["name"]
            if file["path"] is None:
                await asyncio.to_thread(path.write_text, self.claimed["rows"])
            else:
                await self.storage.download_to(BUCKET, file["path"], path)
            yield path

    async def _save(self, number: int, items_done: int, batch: Batch) -> None:
        is_read = batch.report is not None
        read_files = self.files[: number + is_read]
        is_stored = await self.db.call(
            "save_import_batch",
            **self.lease,
            files_done=number,
            items_done=items_done,
            pairs=batch.pairs,
            state=batch.state,
            rows_done=batch.rows + sum(report["stats"]["totalRows"] for report in self.reports),
            bytes_done=sum(file["byte_size"] for file in read_files) + (0 if is_read else batch.bytes),
            report=batch.report,
        )
        if not is_stored:
            raise _LeaseLost
        self.has_stored = True
        if self.validating is not None:
            await self.validating.add(batch.pairs)
        if batch.report is not None:
            self.reports.append(batch.report)

    async def _succeed(self) -> None:
        """Ready; without a validation only where there is a mistake of ours in it."""
        validation = None
        try:
            if self.validating is not None:
                validation = await self.validating.result()
            elif not self.is_given_up:
                validation = await self.validate(await self._dataset(), None)
        except (ServiceUnavailable, _LeaseLost):
            raise
        except Exception as error:
            _log.error("imported, but not validated", dataset=self.lease["dataset_id"], exc_info=error)
        await self._end(validation=validation)

    async def _dataset(self) -> Row:
        dataset = await self.db.find("training_datasets", id=self.lease["dataset_id"])
        if dataset is None:
            raise _LeaseLost  # it was deleted, and its pairs with it
        return dataset

    @contextlib.asynccontextmanager
    async def _seen_whole(self) -> AsyncIterator[None]:
        """Pairs are validated while they are stored, where none was stored by an earlier call."""
        if self.claimed["files_done"] or self.claimed["items_done"]:
            yield
            return
        dataset = await self._dataset()
        self.validating = Validating(lambda pages: self.validate(dataset, pages))
        try:
            yield
        finally:
            await self.validating.cancel()

    async def _fail(self, failure: Failure) -> None:
        while await self.db.call("discard_import_pairs", **self.lease, limit=_DISCARDED_AT_ONCE):
            pass
        await self._end(error=failure)

    async def _end(self, *, validation: Row | None = None, error: Failure | None = None) -> None:
        report = import_report(self.reports, self.options)
        await self.db.call("end_import", **self.lease, report=report, validation=validation, error=error)

    async def _release(self, retry_seconds: int, *, is_attempt: bool) -> None:
        await self.db.call("release_import", **self.lease, retry_seconds=retry_seconds, is_attempt=is_attempt)

    @contextlib.asynccontextmanager
    async def _kept_lease(self) -> AsyncIterator[None]:
        """The lease does not end while the block runs."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(_RENEW_SECONDS)
                with contextlib.suppress(ServiceUnavailable):  # the next time, or the next step, tells
                    await self.db.call("renew_import", **self.lease, lease_seconds=_LEASE_SECONDS)

        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewing.cancel()


def _now() -> float:
    return asyncio.get_running_loop().time()
