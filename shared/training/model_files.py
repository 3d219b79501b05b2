"""A trained model as files that are cut in pieces: how one goes to Storage, and how it comes back.

A piece has at most 40 MiB, so that every plan of Supabase takes it (the free one takes 50 MB a file), no
limit has to be raised for a large model, and what breaks on the way is sent again alone. It is named by its
sha256: sending it twice is harmless, and what comes back is known to be what was sent.
"""

from __future__ import annotations

import hashlib
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from shared.training.config import Record

BUCKET = "models"
PIECE_BYTES = 40 << 20
MOST_FILES = 1_000
MOST_PIECES = 8_000  # 312 GiB, and a list that a request can hold
TRAINED = "trained.json"  # how the run ended: a RunResult
# No file that runs code when it is opened, as pickles do. No name begins with a dot, no folder's has one.
_NAME = (
    r"^(trained\.json|(artifact|adapter)/([A-Za-z0-9_-]{1,60}/){0,2}[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}"
    r"\.(json|safetensors|txt|model|jinja|md|tiktoken|bpe|spm|vocab))$"
)

FileName = Annotated[str, StringConstraints(pattern=_NAME)]
PieceSha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class ModelFile(Record):
    """A file, and the sha256 of each of its pieces in their order. All but the last are of full size."""

    name: FileName = Field(description="Its place below the run directory.")
    size_bytes: int = Field(ge=0, le=MOST_PIECES * PIECE_BYTES)
    pieces: tuple[PieceSha256, ...] = Field(max_length=MOST_PIECES)

    @model_validator(mode="after")
    def _cut_as_agreed(self) -> ModelFile:
        if len(self.pieces) != -(-self.size_bytes // PIECE_BYTES):
            raise ValueError(f"{self.name} of {self.size_bytes} bytes is not {len(self.pieces)} pieces")
        return self

    def piece_bytes(self, number: int) -> int:
        """The size of this piece, counted from 0."""
        return min(PIECE_BYTES, self.size_bytes - number * PIECE_BYTES)


class ModelFiles(Record):
    """All files of a model. Equal models have equal lists."""

    files: tuple[ModelFile, ...] = Field(min_length=1, max_length=MOST_FILES)

    @model_validator(mode="after")
    def _is_a_model(self) -> ModelFiles:
        names = [file.name.lower() for file in self.files]  # some disks do not tell A from a
        if len(set(names)) < len(names):
            raise ValueError("a name is there twice")
        if sum(len(file.pieces) for file in self.files) > MOST_PIECES:
            raise ValueError(f"more than {MOST_PIECES} pieces")
        return self

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    def pieces(self) -> dict[str, int]:
        """Bytes of each piece by its sha256, in their order; equal pieces are one."""
        return {
            sha256: file.piece_bytes(number)
            for file in self.files
            for number, sha256 in enumerate(file.pieces)
        }

    def content(self) -> bytes:
        """The list as it is kept in Storage beside the pieces."""
        return self.model_dump_json().encode()

    @property
    def sha256(self) -> str:
        """Of `content`: it names the model and all that belongs to it."""
        return hashlib.sha256(self.content()).hexdigest()


def shown_bytes(done: int, total: int) -> str:
    """For people: "1.2 of 3.4 GB"."""
    unit, divisor = ("GB", 1e9) if total >= 1e9 else ("MB", 1e6)
    return f"{done / divisor:.1f} of {total / divisor:.1f} {unit}"
