"""A trainer whose disk does not last brings its model to Storage, whatever happens on the way."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from modal_app.session.pieces import listed
from modal_app.session.stop import StopSignal
from shared.training.model_files import PIECE_BYTES
from shared.training.spec import RunState, Ticket, TrainerExit
from tests.modal_app import trainers
from tests.modal_app.endpoint import Endpoint, Fate
from tests.modal_app.test_remote import Call, answer, call, error_code, work_for
from tests.modal_app.trainers import Trainer, until

__all__ = ["call"]  # the fixture


@pytest.fixture
def ticket(callback: Endpoint, data_dir: Path) -> Ticket:
    """Of a short run whose model goes to Storage."""
    callback.stores_model = True
    return work_for(callback, data_dir, trainers.facts(8), epochs=1)


def assert_whole(callback: Endpoint, trainer: Trainer) -> None:
    """Storage has every file of the model, and nothing else."""
    files, pieces, left_out = listed(trainer.run_dir, StopSignal(trainer.run_dir / "cancel"))
    assert left_out == []
    assert callback.pieces == {sha256: b"".join(piece.blocks()) for sha256, piece in pieces.items()}
    assert {"artifact/model.safetensors", "trained.json"} <= {file.name for file in files.files}
    result = callback.stored[-1].result
    assert result
    assert result.artifact_path == f"storage:{files.sha256}"


def times_trained(callback: Endpoint) -> int:
    return sum((report.message or "").startswith("Training started") for report in callback.stored)


def test_the_model_is_brought_before_the_run_completes(
    call: Call, callback: Endpoint, ticket: Ticket, tmp_path: Path
) -> None:
    trainer = call(ticket)
    assert trainer.wait() == TrainerExit.COMPLETED
    assert_whole(callback, trainer)
    assert len(callback.puts) == len(callback.pieces)  # each was sent once
    assert answer(tmp_path).state == RunState.COMPLETED
    assert trainers.status(trainer.run_dir).progress.progress_percent == 100  # type: ignore[union-attr]  # told


def test_a_disk_that_lasts_keeps_its_model(call: Call, callback: Endpoint, ticket: Ticket) -> None:
    callback.stores_model = False
    assert call(ticket).wait() == TrainerExit.COMPLETED
    assert callback.puts == []


@pytest.mark.parametrize(
    "fates",
    [["cut"], ["503", "503"], ["expired", "expired", "expired"], ["503"] * 12 + ["cut", "expired"] * 3],
    ids=["cut", "unavailable", "expired", "all of it for a while"],
)
def test_what_breaks_is_sent_again(call: Call, callback: Endpoint, ticket: Ticket, fates: list[Fate]) -> None:
    callback.fates = list(fates)
    trainer = call(ticket)
    assert trainer.wait() == TrainerExit.COMPLETED
    assert callback.fates == []
    assert_whole(callback, trainer)
    assert len(callback.puts) == len(callback.pieces) + len(fates)


def test_an_expired_address_is_asked_for_anew(call: Call, callback: Endpoint, ticket: Ticket) -> None:
    callback.fates = ["expired"] * 3  # all of the first round
    assert call(ticket).wait() == TrainerExit.COMPLETED
    rounds = -(-len(callback.pieces) // 3)
    assert callback.asked_for_places == rounds + 2  # one more for the round in vain, one that found all there


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "told to go"])
def test_an_upload_that_was_ended_goes_on_without_training_again(
    call: Call, callback: Endpoint, ticket: Ticket, number: signal.Signals
) -> None:
    callback.fates = ["taken"] * 4 + ["hanging"] * 100  # no more are sent before it is told
    trainer = call(ticket)
    until(lambda: len(callback.pieces) >= 4 and len(callback.puts) >= 5)
    trainer.signal(number)
    if number == signal.SIGTERM:
        time.sleep(0.5)  # the signal is there before the next piece could be begun
        callback.ended.set()  # the pieces under way are answered, or their timeout would be waited for
    code = trainer.wait_for_code()
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else TrainerExit.INTERRUPTED)
    assert not any(report.result for report in callback.stored if report.kind == "result") or (
        callback.stored[-1].result and callback.stored[-1].result.state == RunState.INTERRUPTED
    )
    there = set(callback.pieces)
    assert len(there) >= 4
    callback.puts.clear()
    callback.fates = []

    resumed = call(ticket)
    assert resumed.wait() == TrainerExit.COMPLETED
    assert_whole(callback, resumed)
    assert not there & set(callback.puts)
    assert times_trained(callback) == 1


def test_a_cancel_ends_an_upload(call: Call, callback: Endpoint, ticket: Ticket, tmp_path: Path) -> None:
    callback.fates = ["503"] * 1000
    trainer = call(ticket)
    until(lambda: callback.puts)
    callback.cancel_requested = True
    assert trainer.wait() == TrainerExit.COMPLETED  # the call returned, and says why
    assert answer(tmp_path).state == RunState.CANCELLED


def test_a_model_that_is_too_large_is_said_to_be_and_stays_here(
    call: Call, callback: Endpoint, ticket: Ticket, tmp_path: Path
) -> None:
    callback.too_large = True
    trainer = call(ticket)
    assert trainer.wait() == TrainerExit.COMPLETED
    result = answer(tmp_path)
    assert error_code(result) == "artifact_too_large"
    assert result.error
    assert result.error.message == "Raise the limit."
    assert list(trainer.run_dir.glob("artifact/model.safetensors"))
    assert list(trainer.run_dir.glob("checkpoints/*"))


def test_large_files_are_cut_and_strange_ones_stay_behind(tmp_path: Path) -> None:
    artifact = tmp_path / "artifact"
    (artifact / "1_Pooling").mkdir(parents=True)
    (artifact / "1_Pooling" / "config.json").write_text("{}")
    (artifact / "empty.txt").touch()
    (artifact / "training_args.bin").write_bytes(b"a pickle")
    (artifact / "modeling.py").write_text("import os")
    with (artifact / "model.safetensors").open("wb") as file:
        file.truncate(2 * PIECE_BYTES + 5)
    files, pieces, left_out = listed(tmp_path, StopSignal(tmp_path / "cancel"))
    assert left_out == ["artifact/modeling.py", "artifact/training_args.bin"]
    sizes = {file.name: [file.piece_bytes(n) for n in range(len(file.pieces))] for file in files.files}
    assert sizes == {
        "artifact/1_Pooling/config.json": [2],
        "artifact/empty.txt": [],
        "artifact/model.safetensors": [PIECE_BYTES, PIECE_BYTES, 5],
    }
    assert set(files.pieces()) == set(pieces)
    assert files.size_bytes == 2 * PIECE_BYTES + 7
