"""Running out of memory, for a real limit: half the rows at once are tried, and teach the same."""

from __future__ import annotations

import resource
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from modal_app import run
from modal_app.session.failures import is_out_of_memory
from shared.training.micro_batch import fewer_rows_at_once
from shared.training.spec import RunResult, TrainerExit, TrainerReport
from tests.modal_app import trainers
from tests.modal_app.trainers import Trainer

Start = Callable[[Path], Trainer]
NewRun = Callable[..., Path]
SHORT = trainers.facts(64)
# One row is long, and 16 rows that stand beside it are padded to its length. It comes last, at step 4.
LONG = (SHORT[40][0], " ".join(answer for _, answer in trainers.facts(36)))
ROWS = [*SHORT[:40], LONG, *SHORT[41:]]
# Of address space, beyond what the process has when it starts: 16 rows were seen to take 1,196 MiB, 8 to take
# more than 800 and less than 895. Most of it is for libraries that are imported late.
ROOM_BYTES, TOO_LITTLE_BYTES = 1020 << 20, 650 << 20


def train_within(run_dir: str, room_bytes: int) -> None:
    """The trainer, in a process that gets no more memory than this."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + room_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    run.main([run_dir])


@pytest.fixture
def start_within(libraries: ForkServerContext) -> Callable[[Path, int], Trainer]:
    def start(run_dir: Path, room_bytes: int) -> Trainer:
        process = libraries.Process(target=train_within, args=(str(run_dir), room_bytes))
        process.start()
        return Trainer(run_dir, process)

    return start


def new(new_run: NewRun, **config: int) -> Path:
    return new_run(ROWS, **{"batch_size": 16, "epochs": 1, "save_steps": 1, "packing": False, **config})


def shortage(run_dir: Path) -> TrainerReport:
    (found,) = [r for r in trainers.reports(run_dir) if (r.message or "").startswith("Out of memory")]
    return found


def without_place(result: RunResult) -> dict[str, object]:
    """What two runs have in common that train the same."""
    numbers = {"training_loss": result.training_loss, "trained_tokens": result.trained_tokens}
    return numbers | {name: value for name, value in result.metrics.items() if name != "out_of_memory"}


def test_half_the_rows_at_once_teach_the_same(
    start: Start, start_within: Callable[[Path, int], Trainer], new_run: NewRun
) -> None:
    whole, short = new(new_run), new(new_run)
    assert start(whole).wait() == TrainerExit.COMPLETED
    assert start_within(short, ROOM_BYTES).wait() == TrainerExit.COMPLETED

    found, expected = trainers.result(short), trainers.result(whole)
    assert without_place(found) == pytest.approx(without_place(expected), abs=1e-6)
    assert (expected.recipe["rows_at_once"], found.recipe["rows_at_once"]) == (16, 8)

    said = shortage(short)
    assert said.level == "warning"
    assert said.data == found.metrics["out_of_memory"]
    assert said.data["rows_at_once"] == 16
    assert said.data["fewer_rows_at_once"] == 8
    assert said.data["model_bytes"] < said.data["peak_bytes"] < said.data["total_bytes"]
    assert f"16 rows at once of up to {said.data['longest_row_tokens']} tokens" in (said.message or "")
    goes_on = [r.message for r in trainers.reports(short) if (r.message or "").startswith("Training goes on")]
    assert goes_on == ["Training goes on from step 3 of 4."]


def test_a_second_time_is_the_end(start_within: Callable[[Path, int], Trainer], new_run: NewRun) -> None:
    run_dir = new(new_run)
    assert start_within(run_dir, TOO_LITTLE_BYTES).wait() == TrainerExit.FAILED
    assert shortage(run_dir).data["rows_at_once"] == 16
    error = trainers.result(run_dir).error
    assert error
    assert error.code == "out_of_memory"
    assert error.message.startswith("Out of memory with 8 rows at once of up to ")
    assert "MiB of weights, " in error.message
    assert any(run_dir.glob("checkpoints/*/manifest.json")), "the last good checkpoint is kept"


def test_one_row_cannot_be_halved() -> None:
    assert fewer_rows_at_once(8, 1) is None
    assert fewer_rows_at_once(8, 2, least=2) is None
    assert fewer_rows_at_once(9, 9) == 3
    assert fewer_rows_at_once(7, 7) == 1
    assert fewer_rows_at_once(16, 8) == 4


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 4 bytes"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), False),
        (OSError(12, "Cannot allocate memory"), True),
        (OSError(28, "No space left on device"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_libraries_say_it_in_many_ways(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
