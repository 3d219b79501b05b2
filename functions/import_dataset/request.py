"""What import-dataset may be asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, StringConstraints, model_validator

from functions.messages import Request
from shared.datasets.formats import Format
from shared.datasets.model import Kind
from shared.imports.options import Filter, ImportOptions, LogChoice

MAX_FILES = 100
MAX_NAME_BYTES = 200
Column = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=False)]


class UploadedFile(Request):
    """A file in the bucket `uploads`."""

    path: str = Field(min_length=1, max_length=1000, description="Within the bucket: <project id>/...")
    name: str | None = Field(default=None, description="What findings call it; null: as its path ends.")

    @property
    def shown_name(self) -> str:
        return self.name or self.path.rpartition("/")[2]

    @model_validator(mode="after")
    def _is_plain(self) -> UploadedFile:
        if {"", ".", ".."} & set(self.path.split("/")):
            raise ValueError("a path has no empty part and neither . nor ..")
        name = self.shown_name
        if "/" in name or name in ("", ".", "..") or len(name.encode()) > MAX_NAME_BYTES:
            raise ValueError(f"a name is that of a file, in at most {MAX_NAME_BYTES} bytes")
        if not (self.path + name).isprintable():
            raise ValueError("a path or a name holds what cannot be printed")
        return self


class ImportDataset(Request):
    """Files, rows or conversations to make a dataset of; or (row events) the id of a dataset to work on."""

    project_id: UUID | None = None
    dataset_name: str | None = Field(default=None, min_length=1, max_length=120)
    format: Format = Field(default="openai", description="For exports; what the rows are in is detected.")
    system_prompt: str | None = Field(
        default=None, max_length=8000, description="Put before rows that have no system message."
    )
    files: list[UploadedFile] | None = Field(default=None, min_length=1, max_length=MAX_FILES)
    rows: list[Any] | None = Field(default=None, min_length=1)
    conversations: list[Any] | None = Field(default=None, min_length=1)
    mapping: dict[Column, Column] = Field(default={}, max_length=50, description="Known column: yours.")
    skip_bad_rows: bool = Field(default=False, description="false: one bad row, and nothing is imported.")
    kind: Kind | None = Field(default=None, alias="as", description="Logs only; null: as each row says.")
    filter: Filter = Field(default={}, description="Logs only: columns and what they have to be.")
    gold_star_only: bool = Field(default=False, description="Logs only.")
    min_rating: int | None = Field(default=None, ge=1, le=5, description="Logs only.")
    idempotency_key: str | None = Field(default=None, min_length=1, max_length=200)
    dataset_id: UUID | None = Field(default=None, description="Row events only.")

    @model_validator(mode="after")
    def _is_whole(self) -> ImportDataset:
        if self.dataset_id is not None:
            return self
        if self.project_id is None or self.dataset_name is None:
            raise ValueError("give projectId and datasetName")
        if sum(given is not None for given in (self.files, self.rows, self.conversations)) != 1:
            raise ValueError("give one of files, rows and conversations")
        if any("\0" in text for text in _texts(self.model_dump(exclude={"rows", "conversations"}))):
            raise ValueError("a text holds a NUL")
        if self.rows is not None and self._log_choice.model_fields_set:
            raise ValueError("as, filter, goldStarOnly and minRating choose among conversations and files")
        paths = [file.path for file in self.files or []]
        if len(set(paths)) < len(paths):
            raise ValueError("a file is named twice")
        if any(path.partition("/")[0] != str(self.project_id) for path in paths):
            raise ValueError("a path begins with the id of the project: <project id>/...")
        return self

    @property
    def options(self) -> ImportOptions:
        """How the rows are to be read; files are a log when they are chosen from as one."""
        choice = self._log_choice
        is_log = self.conversations is not None or bool(choice.model_fields_set)
        return ImportOptions(
            mapping=self.mapping,
            skip_bad_rows=self.skip_bad_rows,
            system_prompt=self.system_prompt or None,
            log=choice if is_log else None,
        )

    @property
    def source(self) -> str:
        """The word of training_datasets.source."""
        if self.options.log is not None:
            return "conversations"
        return "rows" if self.rows is not None else "upload"

    @property
    def lines(self) -> str | None:
        """The rows of the call as JSON Lines; None when they are in files.

        Everything beyond ASCII is escaped: halves of characters, which JSON allows, stay what they are until
        they are found to be wrong.
        """
        rows = self.rows if self.rows is not None else self.conversations
        return None if rows is None else "".join(json.dumps(row) + "\n" for row in rows)

    @property
    def fingerprint(self) -> str:
        """Equal for equal requests, whatever their key."""
        asked = self.model_dump(
            mode="json", by_alias=True, exclude={"idempotency_key", "rows", "conversations"}
        )
        text = json.dumps([asked, self.lines], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def _log_choice(self) -> LogChoice:
        asked = {"kind", "filter", "gold_star_only", "min_rating"} & self.model_fields_set
        return LogChoice(**{name: getattr(self, name) for name in asked})


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in (*value.keys(), *value.values()):
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
