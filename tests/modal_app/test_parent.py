"""A run that starts from a model of its project: it comes from Storage, whatever happens on the way."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from modal_app.pinned import _sha256_of_model
from modal_app.session.pieces import listed
from modal_app.session.stop import StopSignal
from shared.models.stored import StoredModel
from shared.training.catalog import TINY
from shared.training.model_files import ModelFiles
from shared.training.spec import ParentModel, RunResult, TrainerExit
from tests.conftest import Figure
from tests.modal_app import measures, trainers
from tests.modal_app.endpoint import Endpoint, Fate
from tests.modal_app.trainers import Trainer, until

NewRun = Callable[..., Path]
Start = Callable[[Path], Trainer]
TAUGHT = trainers.facts(12)


@dataclass(frozen=True)
class Taught:
    """A model with adapters, trained from nothing and brought to Storage."""

    run_dir: Path
    result: RunResult
    files: ModelFiles
    pieces: dict[str, bytes]
    model: StoredModel

    @property
    def parent(self) -> ParentModel:
        return ParentModel(root_base_model=TINY, artifact_path=str(self.model))

    def sums(self, folder: str) -> set[str]:
        return {sha256 for file in self.files.files if file.name.startswith(folder) for sha256 in file.pieces}


@pytest.fixture(scope="module")
def taught(start: Start, new_run: NewRun) -> Taught:
    run_dir = new_run(TAUGHT, method="lora", epochs=40)
    assert start(run_dir).wait(120) == TrainerExit.COMPLETED
    files, pieces, _ = listed(run_dir, StopSignal(run_dir / "cancel"))
    contents = {sha256: b"".join(piece.blocks()) for sha256, piece in pieces.items()}
    contents[files.sha256] = files.content()
    model = StoredModel(uuid4(), uuid4(), 1, files.sha256)
    return Taught(run_dir, trainers.result(run_dir), files, contents, model)


@pytest.fixture
def later_run(callback: Endpoint, taught: Taught, new_run: NewRun) -> NewRun:
    """A run from the taught model, which lies behind the endpoint."""
    callback.base = dict(taught.pieces)

    def make(rows: Any = TAUGHT[:4], **more: Any) -> Path:
        return new_run(
            rows, callback_url=callback.url,
            **({"base_model": f"model:{uuid4()}", "parent": taught.parent, "epochs": 1} | more),
        )  # fmt: skip

    return make


def test_preferences_are_learned_on_top_and_nothing_is_forgotten(
    callback: Endpoint, taught: Taught, later_run: NewRun, start: Start, libraries: ForkServerContext,
    data_dir: Path, figure: Figure,
) -> None:  # fmt: skip
    rows = trainers.preference_rows(TAUGHT, trainers.answers_swapped(TAUGHT))
    run_dir = later_run(rows, method="dpo", epochs=6, learning_rate=5e-4)
    assert start(run_dir).wait(120) == TrainerExit.COMPLETED, trainers.result(run_dir).error
    result = trainers.result(run_dir)
    artifacts = [taught.run_dir / "artifact", run_dir / "artifact"]
    before, after = measures.margins(libraries, artifacts, rows)
    known = measures.right_answers(libraries, data_dir, [(str(path), TAUGHT) for path in artifacts])
    figure(
        f"dpo: margin {before:.1f} -> {after:.1f}, {known[0]} -> {known[1]} of {len(TAUGHT)} right, reward"
        f" margin {result.metrics['reward_margin']:.3f}, {result.duration_seconds:.1f} s"
    )
    assert after > before + 1
    assert result.metrics["reward_margin"] > result.metrics["first_reward_margin"]
    assert min(known) >= len(TAUGHT) - 1
    assert result.template_fingerprint == taught.result.template_fingerprint

    assert set(callback.base_gets) == taught.sums("artifact/") | {taught.files.sha256}
    assert len(callback.base_gets) == len(set(callback.base_gets))
    spec = trainers.spec(run_dir)
    assert result.recipe["base_model"] == spec.base_model
    assert result.recipe["base_sha256"] == _sha256_of_model(taught.run_dir / "artifact")
    assert result.recipe["root_base_model"] == TINY
    assert result.recipe["spec_fingerprint"] == spec.fingerprint()
    assert not (run_dir / "base").exists()  # a copy of what Storage has


def test_what_breaks_is_fetched_again(
    callback: Endpoint, taught: Taught, later_run: NewRun, start: Start
) -> None:
    fates: list[Fate] = ["cut", "taken", "503", "503", "expired", "expired", "taken", "cut", "expired"]
    callback.base_fates = list(fates)
    run_dir = later_run()
    assert start(run_dir).wait() == TrainerExit.COMPLETED, trainers.result(run_dir).error
    wanted = len(taught.sums("artifact/")) + 1
    assert len(callback.base_gets) == wanted + sum(fate != "taken" for fate in fates)


def test_a_trainer_that_is_killed_is_followed_by_one_that_fetches_the_rest(
    callback: Endpoint, taught: Taught, later_run: NewRun, start: Start
) -> None:
    callback.base_fates = ["taken"] * 4 + ["hanging"]
    run_dir = later_run()
    trainer = start(run_dir)
    until(lambda: len(callback.base_gets) == 5)
    trainer.signal(signal.SIGKILL)
    assert trainer.wait_for_code() == -signal.SIGKILL
    assert not (run_dir / "base").exists()
    there = callback.base_gets[1:4]
    callback.base_gets.clear()
    assert start(run_dir).wait() == TrainerExit.COMPLETED
    assert not set(there) & set(callback.base_gets)


def test_a_cancel_ends_a_fetch(callback: Endpoint, later_run: NewRun, start: Start) -> None:
    callback.base_fates = ["503"] * 1000
    run_dir = later_run()
    trainer = start(run_dir)
    until(lambda: callback.base_gets)
    callback.cancel_requested = True
    assert trainer.wait() == TrainerExit.CANCELLED
    assert not (run_dir / "base").exists()


@pytest.mark.parametrize(
    ("code", "spoil"),
    [
        ("base_model_gone", lambda endpoint, _: endpoint.base_fates.extend(["taken"] + ["expired"] * 3)),
        ("model_damaged", lambda endpoint, sums: endpoint.base.update(dict.fromkeys(sums, b"other"))),
    ],
)
def test_what_cannot_be_fetched_is_never_trained(
    callback: Endpoint, taught: Taught, later_run: NewRun, start: Start, code: str, spoil: Any
) -> None:
    spoil(callback, taught.sums("artifact/"))
    run_dir = later_run()
    assert start(run_dir).wait() == TrainerExit.FAILED
    assert trainers.failure_code(run_dir) == code
    assert not (run_dir / "base").exists()
    assert not any((report.message or "").startswith("Training") for report in callback.stored)


def test_a_model_on_the_same_disk_is_taken_where_it_lies(
    callback: Endpoint, taught: Taught, later_run: NewRun, start: Start, tmp_path: Path
) -> None:
    parent = ParentModel(root_base_model=TINY, artifact_path=str(taught.run_dir / "artifact"))
    run_dir, from_storage = later_run(parent=parent), later_run()
    assert start(run_dir).wait() == start(from_storage).wait() == TrainerExit.COMPLETED
    assert trainers.weights(run_dir) == trainers.weights(from_storage)
    for path in (tmp_path, taught.run_dir / "gone" / "artifact", taught.run_dir / "../../../artifact"):
        parent = ParentModel(root_base_model=TINY, artifact_path=str(path))
        run_dir = later_run(parent=parent)
        assert start(run_dir).wait() == TrainerExit.FAILED
        assert trainers.failure_code(run_dir) == "base_model_unavailable"
