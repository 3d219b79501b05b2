"""A model comes back from Storage: piece by piece, each proven by its sha256."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from shared.errors import Conflict, NotFound, ProviderUnavailable
from shared.models.stored import StoredModel
from shared.training.model_files import BUCKET, PIECE_BYTES, ModelFile, ModelFiles

if TYPE_CHECKING:
    from shared.storage import Storage

Progress = Callable[[int, int], None]  # bytes done, bytes in all
# Brings the piece of a model that has this sha256, or the list of its files, to a file here. Raises NotFound
# when it is not there. Nobody relies on what it brings: that is proven here.
Source = Callable[[str, Path], Awaitable[None]]


def from_storage(model: StoredModel, storage: Storage) -> Source:
    """Its pieces as who holds the key of `storage` may read them; ServiceUnavailable is raised as well."""
    return lambda sha256, target: storage.download_to(BUCKET, f"{model.folder}/{sha256}", target)


async def files_of(model: StoredModel, source: Source) -> ModelFiles:
    """The list of its files. Raises NotFound, Conflict when it is not the one, and what the source raises."""
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder) / "list"
        try:
            await source(model.sha256, there)
        except NotFound as error:
            raise _gone(model) from error
        content = await asyncio.to_thread(there.read_bytes)
    if hashlib.sha256(content).hexdigest() != model.sha256:
        raise _damaged("The list of its files")
    try:
        return ModelFiles.model_validate_json(content)
    except ValidationError as error:
        raise _damaged("The list of its files") from error


async def fetch(
    model: StoredModel,
    source: Source,
    target: Path,
    *,
    told: Progress = lambda done, total: None,
    files: ModelFiles | None = None,
) -> ModelFiles:
    """`target` holds the model as its run directory did (`artifact/`, `adapter/`, `trained.json`), whole.

    files: those of it that are wanted, as `files_of` gives them; None: all. What an earlier call that was
    stopped has brought already is proven and kept. Needs room for a piece more than the model has. Raises
    what `files_of` raises, Conflict when a piece is not as it was sent, ProviderUnavailable while another
    process fetches it there, and OSError when it cannot be written.
    """
    files = files or await files_of(model, source)
    draft = target.with_name(f"{target.name}.fetching")
    draft.mkdir(parents=True, exist_ok=True)
    with _alone(draft):
        done = 0
        for file in files.files:
            path = draft / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            kept = await asyncio.to_thread(_proven_pieces, path, file)
            done += sum(file.piece_bytes(number) for number in range(kept))
            for number in range(kept, len(file.pieces)):
                await _append(model, source, file.pieces[number], path)
                done += file.piece_bytes(number)
                told(done, files.size_bytes)
        os.rename(draft, target)
    return files


def on_its_way() -> ProviderUnavailable:
    """What is told to who asks for a model that is being fetched."""
    return ProviderUnavailable(
        "The model is being fetched from Storage. Ask again in a minute.",
        code="model_on_its_way",
        retry_after_seconds=60,
    )


@contextmanager
def _alone(draft: Path) -> Iterator[None]:
    """No other process of this machine writes there. Raises ProviderUnavailable."""
    directory = os.open(draft, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise on_its_way() from error
    finally:
        os.close(directory)


async def _append(model: StoredModel, source: Source, sha256: str, path: Path) -> None:
    piece = path.with_name(".piece")
    try:
        await source(sha256, piece)
    except NotFound as error:
        raise _gone(model) from error
    content = await asyncio.to_thread(piece.read_bytes)
    piece.unlink()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise _damaged(path.name)
    with path.open("ab") as file:
        await asyncio.to_thread(file.write, content)


def _proven_pieces(path: Path, file: ModelFile) -> int:
    """How many pieces the file begins with; it is cut off behind them, and is there in any case."""
    with path.open("ab+") as there:
        there.seek(0)
        kept = 0
        for number, sha256 in enumerate(file.pieces):
            if hashlib.sha256(there.read(file.piece_bytes(number))).hexdigest() != sha256:
                break
            kept += 1
        there.truncate(min(kept * PIECE_BYTES, file.size_bytes))
    return kept


def _gone(model: StoredModel) -> NotFound:
    return NotFound(
        f"The model of job {model.job_id} is not in Storage any more, or not for you. Train it again.",
        code="model_not_found",
    )


def _damaged(what: str) -> Conflict:
    return Conflict(
        f"{what} is not as the trainer sent it: its sha256 differs. Try again; if it stays so, train again.",
        code="model_damaged",
    )
