"""One import in the database, as the call that holds its lease reads and writes it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Self
from uuid import UUID

from shared.db import Database, Row
from shared.errors import ServiceUnavailable
from shared.imports.options import ImportOptions
from shared.imports.process import Batch
from shared.imports.report import Failure, Report, import_report

_LEASE_SECONDS = 60
_RENEW_SECONDS = 15.0
_DISCARDED_AT_ONCE = 20_000


class LeaseLost(Exception):
    """Somebody else works on the import now, or it was deleted."""


class ClaimedImport:
    """What is left of an import. Every step raises LeaseLost or does nothing when the lease is not ours."""

    def __init__(self, db: Database, claimed: Row) -> None:
        self._db = db
        self._lease = {"dataset_id": claimed["dataset_id"], "lease_token": claimed["lease_token"]}
        self.options = ImportOptions.model_validate(claimed["options"])
        self.files: list[Row] = claimed["files"]  # {path, name, byte_size, version}
        self.lines: str | None = claimed["rows"]  # what a file without a path holds
        self.uploaded: list[Row] = claimed["uploaded"]  # the files with a path, as they are now
        self.reports: list[Report] = claimed["reports"]  # on the files that are read
        self.state: dict[str, Any] = claimed["state"]  # of the file that is being read
        self.attempts: int = claimed["attempts"]  # since something was stored, this one included
        self.is_begun = bool(self.reports or self.state)

    @classmethod
    async def claim(cls, db: Database, dataset_id: UUID) -> Self | None:
        """The import under a fresh lease; None when it has ended or somebody else works on it."""
        claimed: Row | None = await db.call(
            "claim_import", dataset_id=str(dataset_id), lease_seconds=_LEASE_SECONDS
        )
        return None if claimed is None else cls(db, claimed)

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """The lease does not end while the block runs."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(_RENEW_SECONDS)
                with contextlib.suppress(ServiceUnavailable):  # the next time, or the next step, tells
                    await self._db.call("renew_import", **self._lease, lease_seconds=_LEASE_SECONDS)

        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewing.cancel()

    async def dataset(self) -> Row:
        """The row of its dataset."""
        dataset = await self._db.find("training_datasets", id=self._lease["dataset_id"])
        if dataset is None:
            raise LeaseLost
        return dataset

    async def save(self, batch: Batch) -> None:
        """The pairs are stored and the place of reading is behind them; with a report the file is done."""
        is_read = batch.report is not None
        earlier = self.files[: len(self.reports)]
        byte_count = self.files[len(self.reports)]["byte_size"] if is_read else batch.bytes
        is_stored = await self._db.call(
            "save_import_batch",
            **self._lease,
            files_done=len(self.reports),
            items_done=self.state.get("items", 0),
            pairs=batch.pairs,
            state=batch.state,
            rows_done=batch.rows + sum(report["stats"]["totalRows"] for report in self.reports),
            bytes_done=byte_count + sum(file["byte_size"] for file in earlier),
            report=batch.report,
        )
        if not is_stored:
            raise LeaseLost
        self.state = {} if is_read else batch.state
        if batch.report is not None:
            self.reports.append(batch.report)

    async def release(self, retry_seconds: int, *, is_attempt: bool) -> None:
        """Others may go on after so many seconds; 0: another call is asked for at once."""
        await self._db.call(
            "release_import", **self._lease, retry_seconds=retry_seconds, is_attempt=is_attempt
        )

    async def succeed(self, validation: dict[str, Any] | None) -> None:
        """The dataset is ready; None: what validate-dataset would say is not known."""
        await self._end(validation=validation)

    async def fail(self, failure: Failure) -> None:
        """The dataset has failed, and no pair of it is left."""
        while await self._db.call("discard_import_pairs", **self._lease, limit=_DISCARDED_AT_ONCE):
            pass
        await self._end(error=failure)

    async def _end(self, *, validation: dict[str, Any] | None = None, error: Failure | None = None) -> None:
        report = import_report(self.reports, self.options)
        await self._db.call("end_import", **self._lease, report=report, validation=validation, error=error)
