"""What `artifact_path` says: where the weights of a model are. The one home of that fact.

storage:PROJECT/JOB/ATTEMPT/SHA256   in Storage, in pieces; the last part names the list of its files
/some/where/artifact                 a directory: of this machine if it is there, else of a volume at Modal
null                                 the provider keeps them
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import UUID

from shared.errors import InvalidRequest

Whereabouts = Literal["here", "storage", "elsewhere", "provider"]
_SCHEME = "storage:"
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_STORED = re.compile(rf"{_SCHEME}({_UUID})/({_UUID})/([1-9][0-9]{{0,5}})/([0-9a-f]{{64}})")


@dataclass(frozen=True)
class StoredModel:
    """A model in the bucket `models`."""

    project_id: UUID
    job_id: UUID
    attempt: int
    sha256: str  # of the list of its files

    @property
    def folder(self) -> str:
        """Where its pieces and the list lie, each named by its sha256."""
        return f"{self.project_id}/{self.job_id}/{self.attempt}"

    def __str__(self) -> str:
        return f"{_SCHEME}{self.folder}/{self.sha256}"


def stored(artifact_path: str | None) -> StoredModel | None:
    """None: the model is not in Storage. Raises InvalidRequest for a path that only begins like one there."""
    if artifact_path is None or not artifact_path.startswith(_SCHEME):
        return None
    match = _STORED.fullmatch(artifact_path)
    if match is None:
        raise InvalidRequest("This is no place of a model in Storage.", code="artifact_path_invalid")
    project, job, attempt, sha256 = match.groups()
    return StoredModel(UUID(project), UUID(job), int(attempt), sha256)


def whereabouts(artifact_path: str | None) -> Whereabouts:
    """How the weights can be had from this machine."""
    if artifact_path is None:
        return "provider"
    if stored(artifact_path):
        return "storage"
    path = Path(artifact_path)
    return "here" if path.is_absolute() and path.is_dir() else "elsewhere"


def too_large(size_bytes: int, limit_bytes: int) -> str:
    """What to do about a model that does not fit."""
    return (
        f"The model has {size_bytes / 1e9:.1f} GB, and {limit_bytes / 1e9:.1f} GB are taken to Storage. Raise"
        " FINEFLOW_MODEL_STORAGE_LIMIT_BYTES of the functions server, train a smaller base model, or train at"
        " Modal or locally, where the disk stays."
    )
