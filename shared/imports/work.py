"""Works through the files of an import until they are read or the time is up.

Each step stores pairs and the place of reading behind them, at once and under a lease that is kept alive. A
call that is killed loses the batch in its hands; the next one passes over what comes before the place.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from shared.db import APIError, Database, Row
from shared.errors import CallerError, NotFound, ServiceUnavailable
from shared.imports.process import BATCH_ROWS, ReaderDied, RowReader
from shared.imports.report import Failure, failure_of, listed_a_rule
from shared.imports.store import ClaimedImport, LeaseLost
from shared.imports.stream import Pages, Validating
from shared.log import logger
from shared.storage import Storage

BUCKET = "uploads"
BUDGET_SECONDS = 45.0  # under the 60 s that a row event waits for a function
_OUTAGE_SECONDS = 10  # until another call may try, when the database or the storage was away
_MAX_ATTEMPTS = 4  # calls in a row that stored nothing
_BAD_VALUE = ("22", "23")  # classes of SQLSTATE: the database will never take it
_readers = asyncio.Semaphore(2)  # in this process; an import that finds no place is left to the schedule

Validate = Callable[[Row, Pages | None], Awaitable[dict[str, Any]]]
_log = logger("imports")


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
            claimed = await ClaimedImport.claim(db, dataset_id)
            if claimed is not None:
                await _Work(claimed, storage, validate, _now() + budget_seconds, batch_rows).run()
    dataset = await db.find("training_datasets", id=dataset_id)
    if dataset is None:
        raise NotFound(f"There is no dataset {dataset_id}.", code="dataset_not_found")
    return dataset


@dataclass
class _Work:
    """One call's work on an import."""

    claimed: ClaimedImport
    storage: Storage
    validate: Validate
    deadline: float
    batch_rows: int
    validating: Validating | None = None  # None: a part of the pairs is not seen here

    async def run(self) -> None:
        """Reads on and ends the import, or hands it back."""
        try:
            async with self.claimed.kept(), self._seen_whole():
                failure = self._problem() or await self._read_files()
                await (self.claimed.fail(failure) if failure else self._succeed())
        except LeaseLost:
            pass
        except _TimeUp:
            await self.claimed.release(0, is_attempt=False)
        except ReaderDied as death:
            _log.warning("reader died", reason=str(death))
            await self.claimed.release(self._pause_seconds, is_attempt=True)
        except Exception as error:
            is_outage = isinstance(error, ServiceUnavailable)
            pause_seconds = _OUTAGE_SECONDS if is_outage else self._pause_seconds
            with contextlib.suppress(ServiceUnavailable):  # then the lease ends by itself
                await self.claimed.release(pause_seconds, is_attempt=not is_outage)
            raise

    @property
    def _pause_seconds(self) -> int:
        return int(5 * 2**self.claimed.attempts)

    @property
    def _is_given_up(self) -> bool:
        return self.claimed.attempts > _MAX_ATTEMPTS

    def _problem(self) -> Failure | None:
        """Why there is no use in reading."""
        unread = self.claimed.files[len(self.claimed.reports) :]
        if self._is_given_up and unread:
            name = unread[0]["name"]
            message = f"{name} was given up after {_MAX_ATTEMPTS} attempts. Split it, or write it as JSONL."
            return {"code": "file_too_hard", "message": message}
        uploaded = {file["path"]: file["version"] for file in self.claimed.uploaded}
        for file in unread:
            if file["path"] is not None and uploaded.get(file["path"]) != file["version"]:
                what = "was replaced" if file["path"] in uploaded else "was deleted"
                message = f"{file['path']} {what} before it was read. Import it again."
                return {"code": "file_changed", "message": message}
        return None

    async def _read_files(self) -> Failure | None:
        """All are read. Returns why nothing comes of them."""
        options, files = self.claimed.options, self.claimed.files
        listed = listed_a_rule(len(files))
        try:
            async with RowReader(options, listed_a_rule=listed, batch_rows=self.batch_rows) as reader:
                for file in files[len(self.claimed.reports) :]:
                    await self._read_file(reader, file)
        except CallerError as error:
            return {"code": error.code, "message": error.message}
        except APIError as error:
            if not str(error.code).startswith(_BAD_VALUE):
                raise
            _log.error("pairs not stored", code=error.code, error=error.message)
            return {"code": "pairs_not_stored", "message": f"The database refused pairs: {error.message}"}
        return failure_of(self.claimed.reports, options)

    async def _read_file(self, reader: RowReader, file: Row) -> None:
        has_bad_rows = any(report["errors"] for report in self.claimed.reports)
        is_refused = has_bad_rows and not self.claimed.options.skip_bad_rows
        async with (
            self._local(file) as path,
            contextlib.aclosing(
                reader.read(path, state=self.claimed.state, is_refused=is_refused)
            ) as batches,
        ):
            async for batch in batches:
                await self.claimed.save(batch)
                if self.validating is not None:
                    await self.validating.add(batch.pairs)
                if _now() > self.deadline and len(self.claimed.reports) < len(self.claimed.files):
                    raise _TimeUp

    @contextlib.asynccontextmanager
    async def _local(self, file: Row) -> AsyncIterator[Path]:
        """The file on this machine, under its name, for as long as the block runs."""
        with tempfile.TemporaryDirectory(prefix="fineflow-import-") as directory:
            path = Path(directory) / file["name"]
            if file["path"] is None:
                await asyncio.to_thread(path.write_text, self.claimed.lines or "")
            else:
                await self.storage.download_to(BUCKET, file["path"], path)
            yield path

    @contextlib.asynccontextmanager
    async def _seen_whole(self) -> AsyncIterator[None]:
        """Pairs are validated while they are stored, where none was stored by an earlier call."""
        if self.claimed.is_begun:
            yield
            return
        dataset = await self.claimed.dataset()
        self.validating = Validating(lambda pages: self.validate(dataset, pages))
        try:
            yield
        finally:
            await self.validating.cancel()

    async def _succeed(self) -> None:
        """Ready; without a validation only where there is a mistake of ours in it."""
        validation = None
        try:
            if self.validating is not None:
                validation = await self.validating.result()
            elif not self._is_given_up:
                validation = await self.validate(await self.claimed.dataset(), None)
        except (ServiceUnavailable, LeaseLost):
            raise
        except Exception as error:
            _log.error("imported, but not validated", exc_info=error)
        await self.claimed.succeed(validation)


def _now() -> float:
    return asyncio.get_running_loop().time()
