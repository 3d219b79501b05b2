"""Any rank but 0: `python -m modal_app.ranks.follower RUN_DIR`, started by rank 0 with its orders.

It computes and tells nobody but rank 0. It ends when rank 0 does: its standard input closes then.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import IO, Any, Literal, NoReturn

from modal_app.ranks.orders import Orders, said_by, waits
from modal_app.ranks.place import PATIENCE, Place, joined
from modal_app.session.directory import RunDirectory
from modal_app.session.failures import explain
from modal_app.session.stop import Stopped, StopSignal
from modal_app.task import Task
from shared import log as logs
from shared.training.spec import Progress

log = logs.logger("trainer")


class Silence:
    """A `task.Voice` of a process that does not report."""

    def say(self, current_step: str, **numbers: float) -> None: ...

    def progress(self, progress: Progress, *, training: bool = False) -> None: ...

    def event(
        self, message: str, *, level: Literal["info", "warning", "error"] = "info", **data: Any
    ) -> None: ...


def follow(run_dir: Path, orders: Orders) -> int:
    """The exit code: 0 when the run ended or was stopped, 1 when this rank failed and has said why."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # public, but not in __all__

    from modal_app import hardware, loop

    store = TCPStore("127.0.0.1", orders.port, is_master=False, timeout=PATIENCE)
    try:
        hardware.take(orders.rank)
        task = _task(run_dir, orders)
        learner = loop.loaded(task)
        store.set(waits(orders.rank), "")
        store.wait(["go"])
        with joined(task.place, store):
            loop.trained(task, learner, orders.checkpoint)
    except Stopped:
        return 0
    except Exception as error:
        log.exception("rank_failed", rank=orders.rank)
        store.set(said_by(orders.rank), explain(error).model_dump_json())
        return 1
    return 0


def _task(run_dir: Path, orders: Orders) -> Task:
    directory = RunDirectory(run_dir)
    spec = directory.spec()
    spec = spec.model_copy(update={"base_revision": directory.base_commit() or spec.base_revision})
    return Task(
        spec=spec,
        dataset=directory.dataset(spec.dataset),
        validation=directory.dataset(spec.validation) if spec.validation else None,
        directory=directory,
        reporter=Silence(),
        stop=StopSignal(directory.path / "never"),  # rank 0 alone looks for reasons, and tells them
        most_rows_at_once=orders.most_rows_at_once,
        place=Place(orders.rank, orders.count),
    )


def _end_with(leader: IO[bytes]) -> None:
    leader.read()
    os._exit(1)


def main() -> NoReturn:
    """The command line. Ends the process."""
    logs.configure()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # rank 0 gets them too, and decides
    orders = Orders.model_validate_json(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with, args=(sys.stdin.buffer,), daemon=True).start()
    code = follow(Path(sys.argv[1]), orders)
    sys.stdout.flush()
    os._exit(code)  # a daemon thread reads standard input, which the interpreter would wait for


if __name__ == "__main__":
    main()
