"""Models from Storage on this machine, for the inference server that reads the same disk."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from pathlib import Path

from shared.errors import Conflict, NotFound
from shared.models.fetching import fetch, files_of, from_storage, on_its_way
from shared.models.stored import StoredModel
from shared.storage import Storage

WAIT_SECONDS = 60.0


class ModelCache:
    """`models/SHA256` in the data directory is a whole model; which nobody asked for longest goes first."""

    def __init__(self, data_dir: Path, storage: Storage, *, most_bytes: int) -> None:
        self._directory = data_dir.resolve() / "models"
        self._storage = storage
        self._most_bytes = most_bytes
        self._fetching: dict[str, asyncio.Task[None]] = {}  # by sha256

    async def artifact(self, model: StoredModel) -> Path:
        """The directory of the servable model, here. It is fetched when it is not.

        Raises ProviderUnavailable when that takes longer than a caller waits, while it goes on; Conflict when
        the cache is too small or a piece is damaged; NotFound; ServiceUnavailable.
        """
        home = self._directory / model.sha256
        if not home.is_dir():
            task = self._fetching.get(model.sha256)
            if task is None:
                task = self._fetching[model.sha256] = asyncio.create_task(self._fetch(model, home))
                task.add_done_callback(lambda _: self._fetching.pop(model.sha256, None))
            try:
                await asyncio.wait_for(asyncio.shield(task), WAIT_SECONDS)
            except TimeoutError as error:
                raise on_its_way() from error
        now = time.time_ns()  # the file system's own clock may stand still for some milliseconds
        os.utime(home, ns=(now, now))
        return home / "artifact"

    async def _fetch(self, model: StoredModel, home: Path) -> None:
        source = from_storage(model, self._storage)
        files = await files_of(model, source)
        if "artifact/config.json" not in {file.name for file in files.files}:
            raise NotFound("What lies in Storage is no model that answers.", code="model_not_found")
        await asyncio.to_thread(self._make_room, files.size_bytes)
        await fetch(model, source, home, files=files)

    def _make_room(self, wanted_bytes: int) -> None:
        if wanted_bytes > self._most_bytes:
            raise Conflict(
                f"The model has {wanted_bytes / 1e9:.1f} GB, more than is kept here of models from Storage."
                " Raise FINEFLOW_MODEL_CACHE_BYTES of the functions server, or fetch it elsewhere with"
                " `fineflow models fetch`.",
                code="model_over_cache",
            )
        self._directory.mkdir(parents=True, exist_ok=True)
        homes = [home for home in self._directory.iterdir() if home.is_dir() and not home.suffix]
        sizes = {home: _size_bytes(home) for home in homes}
        for home in sorted(homes, key=lambda home: home.stat().st_mtime):
            if sum(sizes.values()) + wanted_bytes <= self._most_bytes:
                return
            shutil.rmtree(home, ignore_errors=True)
            del sizes[home]


def _size_bytes(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
