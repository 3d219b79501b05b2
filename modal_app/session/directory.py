"""The run directory: everything that a run is, so that any process can pick it up again.

spec.json  train.jsonl  callback.json        written by whoever starts the run
run.lock   cancel                            held while a trainer lives; appears when it shall cancel
status.json  events.jsonl                    the latest state; every report ever made
trained.json                                 how training ended, while the model is on its way to Storage
base_commit                                  what the name of the base model meant when the run began
base/                                        the model of the project that it starts from, out of Storage
checkpoints/  adapter/  artifact/            while it trains; the LoRA weights; the servable model
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from modal_app.session.failures import RunFailed
from shared.models.stored import stored
from shared.training.model_files import TRAINED
from shared.training.spec import Callback, DatasetFile, RunResult, RunSpec, RunState, RunStatus, TrainerReport

_READ_BYTES = 1 << 20


class DirectoryInUse(Exception):
    """Another trainer lives in this run directory."""


class RunDirectory:
    """Names and reads what is in the directory; writes so that a reader never sees half a file.

    `kept` is called when something lies there that is worth a lost machine: a checkpoint, the model.
    """

    def __init__(self, path: Path, *, kept: Callable[[], None] = lambda: None) -> None:
        self.path = path.resolve()
        self.kept = kept
        self.cancel_file = self.path / "cancel"
        self.checkpoints = self.path / "checkpoints"
        self.adapter = self.path / "adapter"
        self.artifact = self.path / "artifact"
        self.base = self.path / "base"
        self._status = self.path / "status.json"
        self._base_commit = self.path / "base_commit"
        self._events = self.path / "events.jsonl"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """This process alone trains here. Raises DirectoryInUse at once; a dead process holds no lock."""
        with (self.path / "run.lock").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise DirectoryInUse(str(self.path)) from error
            yield

    def spec(self) -> RunSpec:
        """What to train. Raises RunFailed with code spec_invalid."""
        try:
            spec = RunSpec.model_validate_json((self.path / "spec.json").read_bytes())
        except FileNotFoundError as error:
            raise RunFailed("spec_invalid", f"{self.path} holds no spec.json.") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise RunFailed("spec_invalid", f"spec.json is not a RunSpec: {where}: {first['msg']}") from error
        if None in spec.config.model_dump().values():
            raise RunFailed("spec_invalid", "The config of spec.json still has automatic values in it.")
        return spec

    def callback(self) -> Callback | None:
        """Where to report; None: nowhere but in this directory."""
        try:
            return Callback.model_validate_json((self.path / "callback.json").read_bytes())
        except FileNotFoundError:
            return None

    def dataset(self, expected: DatasetFile) -> Path:
        """The training file, proven to be the one that the spec names. Raises RunFailed."""
        path = self.path / Path(expected.name).name
        try:
            found = sha256_of(path)
        except FileNotFoundError as error:
            raise RunFailed("dataset_missing", f"The run directory holds no {expected.name}.") from error
        if found != expected.sha256:
            raise RunFailed(
                "dataset_mismatch",
                f"{expected.name} is not the dataset of this run: its sha256 is {found[:12]}..., "
                f"the spec says {expected.sha256[:12]}... Start the run again.",
            )
        return path

    def base_source(self, spec: RunSpec) -> str:
        """What its base model is loaded by: a Hub id or a directory, once `parent.bring` was called."""
        if spec.parent is None:
            return spec.base_model
        path = spec.parent.artifact_path
        return path if stored(path) is None else str(self.base / "artifact")

    def base_commit(self) -> str | None:
        """Which commit of the base model this run has begun with; None: it has not, or the base has none."""
        try:
            return self._base_commit.read_text()
        except FileNotFoundError:
            return None

    def keep_base_commit(self, commit: str) -> None:
        """Trainers that come later load this commit too."""
        _write_whole(self._base_commit, commit)

    def write_status(self, status: RunStatus) -> None:
        """status.json now says this, whole or not at all."""
        _write_whole(self._status, status.model_dump_json())

    def append_event(self, report: TrainerReport) -> None:
        """events.jsonl ends with this report."""
        with self._events.open("a", encoding="utf-8") as events:
            events.write(report.model_dump_json(exclude_defaults=True) + "\n")

    def last_seq(self) -> int:
        """The number of the last report ever made here; 0 before the first.

        A line that a killed trainer left half written is cut off, so that the next one stands alone.
        """
        if not self._events.exists():
            return 0
        with self._events.open("rb+") as events:
            whole, _, torn = events.read().rpartition(b"\n")
            if torn:
                events.truncate(len(whole) + 1 if whole else 0)
        return max((report.seq for report in map(_report, whole.splitlines()) if report), default=0)

    def reports_after(self, seq: int) -> list[TrainerReport]:
        """The reports with higher numbers that were made here, in their order."""
        if not self._events.exists():
            return []
        reports = map(_report, self._events.read_bytes().splitlines())
        return [report for report in reports if report and report.seq > seq]

    def discard_means(self) -> None:
        """Checkpoints and a fetched base are gone: a completed run never goes on, and they are large."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        shutil.rmtree(self.base, ignore_errors=True)

    def result(self) -> RunResult | None:
        """How the latest trainer here ended; None: it did not, or there was none."""
        try:
            return RunStatus.model_validate_json(self._status.read_bytes()).result
        except (FileNotFoundError, ValidationError):
            return None

    def keep_trained(self, result: RunResult) -> None:
        """A trainer that comes later need not train again."""
        _write_whole(self.path / TRAINED, result.model_dump_json())

    def trained_result(self) -> RunResult | None:
        """What `keep_trained` was given, the model being there; None: it was given nothing."""
        try:
            result = RunResult.model_validate_json((self.path / TRAINED).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return result if (self.artifact / "config.json").is_file() else None

    def finished_result(self) -> RunResult | None:
        """The result of an earlier trainer that completed this run, with its artifact still there."""
        result = self.result()
        completed = result is not None and result.state == RunState.COMPLETED and self.artifact.is_dir()
        return result if completed else None


def _report(line: bytes) -> TrainerReport | None:
    """None: the line is none, as when a machine lost its power while it was written."""
    try:
        return TrainerReport.model_validate_json(line)
    except ValidationError:
        return None


def _write_whole(path: Path, text: str) -> None:
    draft = path.with_suffix(".tmp")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)


def sha256_of(path: Path) -> str:
    """Of the bytes of the file, in hex. Needs no memory to speak of."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
