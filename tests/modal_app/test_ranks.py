"""Two processes learn what one does, step by step; they stop together, and none outlives the other.

On a CPU, through gloo: adapters as DDP has them, all weights sharded by FSDP.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import torch
from safetensors.torch import load_file

from modal_app import run
from modal_app.ranks.place import Place
from modal_app.ranks.rows import Share
from shared.training.config import Method
from shared.training.spec import RunState, TrainerExit
from tests.modal_app import trainers
from tests.modal_app.trainers import Row, Trainer, until

NewRun = Callable[..., Path]
PAIRS = trainers.facts(13)  # of the last step of an epoch one row is left: a rank has none
EVEN = trainers.facts(14)
ROWS: dict[Method, list[Row]] = {
    "lora": trainers.supervised_rows(PAIRS),
    "full": trainers.supervised_rows(PAIRS),
    "dpo": trainers.preference_rows(EVEN, trainers.answers_swapped(EVEN)),
    "embedding": trainers.texts(EVEN),
}


class Finished(NamedTuple):
    """A run that completed, and the loss of each of its steps."""

    run_dir: Path
    losses: list[float]


def _new(new_run: NewRun, method: Method, gpu_count: int) -> Path:
    # Each rank draws its own random numbers, so nothing is dropped at random.
    settings = {"batch_size": 4, "epochs": 3, "save_steps": 4, "lora_dropout": 0.0}
    return new_run(ROWS[method], method=method, gpu_count=gpu_count, **settings)


def _train(run_dir: str) -> None:
    """A trainer that leaves the state of its loop beside its model."""

    def keep() -> None:
        for state in Path(run_dir).glob("checkpoints/*/trainer_state.json"):
            shutil.copy(state, Path(run_dir) / f"{state.parent.name}.json")

    sys.exit(run.train(Path(run_dir), kept=keep))


def _start(libraries: ForkServerContext, run_dir: Path) -> Trainer:
    process = libraries.Process(target=_train, args=(str(run_dir),))
    process.start()
    return Trainer(run_dir, process)


def _finished(run_dir: Path) -> Finished:
    last = max(run_dir.glob("checkpoint-*.json"), key=lambda path: int(path.stem.partition("-")[2]))
    history = json.loads(last.read_text())["log_history"]
    return Finished(run_dir, [logs["loss"] for logs in history if "loss" in logs])


@pytest.fixture(scope="module")
def together(libraries: ForkServerContext, new_run: NewRun) -> Callable[[Method], Finished]:
    """The run of two ranks that nobody disturbs, made once for each method."""
    made: dict[Method, Finished] = {}

    def run_of(method: Method) -> Finished:
        if method not in made:
            trainer = _start(libraries, _new(new_run, method, 2))
            assert trainer.wait() == TrainerExit.COMPLETED
            made[method] = _finished(trainer.run_dir)
        return made[method]

    return run_of


@pytest.mark.parametrize("method", ["lora", "full", "dpo", "embedding"])
def test_two_ranks_learn_what_one_process_does(
    libraries: ForkServerContext, new_run: NewRun, together: Callable[[Method], Finished], method: Method
) -> None:
    alone = _start(libraries, _new(new_run, method, 1))
    both = together(method)
    assert alone.wait() == TrainerExit.COMPLETED
    one = _finished(alone.run_dir)

    assert len(both.losses) == 12
    assert both.losses == pytest.approx(one.losses, abs=1e-5)
    expected, found = trainers.result(one.run_dir), trainers.result(both.run_dir)
    assert found.trained_tokens == expected.trained_tokens
    assert found.artifact_bytes == pytest.approx(expected.artifact_bytes, abs=1000)
    mine, theirs = (load_file(done.run_dir / "artifact" / "model.safetensors") for done in (both, one))
    assert mine.keys() == theirs.keys()
    assert max(float((mine[name] - theirs[name]).abs().max()) for name in theirs) < 1e-4
    reports = trainers.reports(both.run_dir)
    assert [report.seq for report in reports] == list(range(1, len(reports) + 1))
    told = [report.message for report in reports if report.kind == "event"]
    assert told == [f"Training started: {len(ROWS[method])} rows, 12 steps."], "more than one rank spoke"


def test_both_ranks_stop_after_the_same_step_and_go_on(
    libraries: ForkServerContext, new_run: NewRun, together: Callable[[Method], Finished]
) -> None:
    stopped = _start(libraries, _new(new_run, "full", 2))
    stopped.wait_for_checkpoint()
    (follower,) = _followers(stopped)
    stopped.signal(signal.SIGTERM)
    assert stopped.wait() == TrainerExit.INTERRUPTED
    assert _is_gone(follower)
    assert trainers.status(stopped.run_dir).state == RunState.INTERRUPTED
    _goes_on_to_the_same_model(libraries, stopped.run_dir, together("full"))


def test_a_rank_that_dies_ends_the_run_which_goes_on_when_it_is_started_again(
    libraries: ForkServerContext, new_run: NewRun, together: Callable[[Method], Finished]
) -> None:
    run_dir = _new(new_run, "lora", 2)
    first = _start(libraries, run_dir)
    first.wait_for_checkpoint()
    (follower,) = _followers(first)
    follower.kill()
    assert first.wait() == TrainerExit.FAILED
    error = trainers.result(run_dir).error
    assert error is not None
    assert (error.code, error.message.partition(".")[0]) == (
        "rank_lost",
        "Rank 1 of 2 was killed by signal 9",
    )

    second = _start(libraries, run_dir)
    until(lambda: _followers(second))
    (follower,) = _followers(second)
    second.signal(signal.SIGKILL)
    assert second.wait_for_code() == -signal.SIGKILL
    until(lambda: _is_gone(follower), timeout_seconds=20)
    _goes_on_to_the_same_model(libraries, run_dir, together("lora"))


def _goes_on_to_the_same_model(libraries: ForkServerContext, run_dir: Path, whole: Finished) -> None:
    assert _start(libraries, run_dir).wait() == TrainerExit.COMPLETED
    told = [report.message or "" for report in trainers.reports(run_dir) if report.kind == "event"]
    assert "goes on from step" in told[-1]
    assert _finished(run_dir).losses == whole.losses
    assert trainers.result(run_dir).trained_tokens == trainers.result(whole.run_dir).trained_tokens
    assert trainers.weights(run_dir) == trainers.weights(whole.run_dir)


def test_a_batch_that_the_ranks_cannot_share_is_refused(
    libraries: ForkServerContext, new_run: NewRun
) -> None:
    trainer = _start(libraries, new_run(PAIRS, gpu_count=3, batch_size=4))
    assert trainer.wait() == TrainerExit.FAILED
    assert trainers.failure_code(trainer.run_dir) == "batch_not_shared"


@pytest.mark.parametrize("count", [2, 3, 8])
def test_the_ranks_share_each_batch_and_nobody_gets_a_row_twice(count: int) -> None:
    rows = range(50)
    shares = [list(_share(rows, Place(rank, count), blank=50)) for rank in range(count)]
    assert len({len(share) for share in shares}) == 1, "a rank would wait for one that has no more batches"
    whole = _batches(rows, 2 * count)
    for batch, *parts in zip(whole, *shares, strict=True):
        assert all(parts), "a rank has nothing to pass through its model"
        assert sorted(row for part in parts for row in part if row != 50) == sorted(batch)


def test_without_a_blank_row_all_parts_are_as_large() -> None:
    shares = [list(_share(range(13), Place(rank, 4), blank=None)) for rank in range(4)]
    assert [[len(part) for part in share] for share in shares] == [[2, 2]] * 4
    assert {row for share in shares for row in share[1]} == set(range(8, 13))


def _batches(rows: range, size: int) -> torch.utils.data.BatchSampler:
    return torch.utils.data.BatchSampler(torch.utils.data.SequentialSampler(rows), size, drop_last=False)


def _share(rows: range, place: Place, *, blank: int | None) -> Share:
    return Share(_batches(rows, 2), place, blank=blank)


def _followers(trainer: Trainer) -> list[psutil.Process]:
    children = psutil.Process(trainer.process.pid).children()
    return [child for child in children if "modal_app.ranks.follower" in child.cmdline()]


def _is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
