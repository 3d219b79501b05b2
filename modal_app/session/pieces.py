"""A model on this disk as pieces: listed by their sha256, and sent one by one, straight from the disk."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from pydantic import TypeAdapter, ValidationError

from modal_app.session.stop import StopSignal
from shared.training.model_files import PIECE_BYTES, TRAINED, FileName, ModelFile, ModelFiles

SEND_TIMEOUT_SECONDS = 60.0  # without a byte taken or answered
SENT_AT_ONCE = 4
TRIES = 3  # at one address
FIRST_RETRY_SECONDS = 0.5
_BLOCK_BYTES = 1 << 20
_WORTH_REPEATING = {408, 425, 429}  # beside every 5xx
_NAMES: TypeAdapter[str] = TypeAdapter(FileName)


class TooLarge(Exception):
    """Storage does not take a piece of this size."""


@dataclass(frozen=True)
class Piece:
    """Bytes of a file."""

    path: Path
    offset_bytes: int
    size_bytes: int

    def blocks(self) -> Iterator[bytes]:
        """The bytes, a block in memory at a time."""
        with self.path.open("rb") as file:
            file.seek(self.offset_bytes)
            left = self.size_bytes
            while left and (block := file.read(min(_BLOCK_BYTES, left))):
                left -= len(block)
                yield block


def listed(run_dir: Path, stop: StopSignal) -> tuple[ModelFiles, dict[str, Piece], list[str]]:
    """The files of the model, where each piece lies, and the names of files that are not taken along.

    Left out is what no model consists of, such as pickles. Raises Stopped.
    """
    paths = sorted(path for name in ("artifact", "adapter") for path in (run_dir / name).rglob("*"))
    files, pieces, left_out = [], {}, []
    for path in (run_dir / TRAINED, *paths):
        if not path.is_file():
            continue
        name = path.relative_to(run_dir).as_posix()
        try:
            _NAMES.validate_python(name)
        except ValidationError:
            left_out.append(name)
            continue
        size_bytes, sums = path.stat().st_size, []
        for offset in range(0, size_bytes, PIECE_BYTES):
            stop.check()
            piece = Piece(path, offset, min(PIECE_BYTES, size_bytes - offset))
            digest = hashlib.sha256()
            for block in piece.blocks():
                digest.update(block)
            sums.append(digest.hexdigest())
            pieces[sums[-1]] = piece
        files.append(ModelFile(name=name, size_bytes=size_bytes, pieces=tuple(sums)))
    return ModelFiles(files=tuple(files)), pieces, left_out


class Sender:
    """Sends pieces to their addresses. Safe from several threads."""

    def __init__(self, client: httpx.Client, stop: StopSignal, told: Callable[[int], None]) -> None:
        """told: hears how many bytes more are on their way, or fewer when an attempt was in vain."""
        self._client = client
        self._stop = stop
        self._told = told
        self._telling = threading.Lock()

    def send(self, piece: Piece, url: str) -> bool:
        """Whether Storage has the piece. False: this address does not work (any more); ask for another.

        An attempt that broke is repeated: the same bytes come to the same place. Raises Stopped and TooLarge.
        """
        delay_seconds = FIRST_RETRY_SECONDS
        for _ in range(TRIES):
            status = self._attempt(piece, url)
            if status is not None and status < 500 and status not in _WORTH_REPEATING:
                return status == httpx.codes.OK
            self._stop.requested.wait(delay_seconds)
            self._stop.check()
            delay_seconds *= 2
        return False

    def _attempt(self, piece: Piece, url: str) -> int | None:
        """The status of the answer; None: there was none."""
        sent = [0]
        headers = {"content-type": "application/octet-stream", "content-length": str(piece.size_bytes)}
        try:
            response = self._client.put(url, content=self._watched(piece, sent), headers=headers)
            if response.is_success:
                sent.clear()
                return int(httpx.codes.OK)
        except httpx.TransportError:
            return None
        finally:
            self._tell(-sum(sent))
        if response.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE or '"413"' in response.text[:500]:
            raise TooLarge
        return response.status_code

    def _watched(self, piece: Piece, sent: list[int]) -> Iterator[bytes]:
        for block in piece.blocks():
            self._stop.check()
            yield block
            sent[0] += len(block)
            self._tell(len(block))

    def _tell(self, more_bytes: int) -> None:
        with self._telling:
            self._told(more_bytes)
