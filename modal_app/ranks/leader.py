"""Rank 0: it starts the other ranks, meets them when all have loaded, and lets none outlive it.

A follower holds nothing that rank 0 does not keep: it may be killed at any time, and is when rank 0 leaves.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from modal_app import hardware
from modal_app.ranks.orders import Orders, environment, said_by, source_root, waits
from modal_app.ranks.place import PATIENCE, joined
from modal_app.session.failures import RunFailed
from modal_app.task import Task
from shared import log as logs
from shared.training.spec import RunError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import TCPStore

log = logs.logger("trainer")
_LOOK_SECONDS = 0.02
_GRACE_SECONDS = 10.0  # in which an error of one rank shows in the others, and a follower that is done ends


@contextmanager
def led(task: Task, checkpoint: Path | None) -> Iterator[Leader | None]:
    """The other ranks of the run live inside; None: it has one process only.

    Raises RunFailed: gpus_missing, rank_lost when a follower died, and what a follower says of itself.
    """
    if task.place.count == 1:
        yield None
        return
    _require_gpus(task.place.count)
    with ExitStack() as stack:
        leader = Leader(task, checkpoint, stack)
        try:
            yield leader
        except Exception as error:
            if lost := leader.lost(within_seconds=_GRACE_SECONDS if _may_be_of_others(error) else 0.0):
                raise lost from error
            raise


class Leader:
    """The followers of one attempt."""

    def __init__(self, task: Task, checkpoint: Path | None, stack: ExitStack) -> None:
        """All are started; whatever happens, the stack ends them."""
        from torch.distributed import TCPStore  # type: ignore[attr-defined]  # public, but not in __all__

        self._task, self._stack, self._done = task, stack, threading.Event()
        self._store: TCPStore = TCPStore(
            "127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=PATIENCE
        )
        self._followers: dict[int, subprocess.Popen[bytes]] = {}
        stack.callback(_forget, environment(0, 0, 0))
        stack.callback(self._end)
        for rank in range(1, task.place.count):
            self._followers[rank] = self._started(rank, checkpoint)
        os.environ |= environment(0, task.place.count, self._store.port)

    def meet(self) -> None:
        """All ranks have their model and their rows, and are one process group until the stack ends."""
        missing = set(self._followers)
        deadline = time.monotonic() + PATIENCE.total_seconds()
        while missing := {rank for rank in missing if not self._store.check([waits(rank)])}:
            self._task.stop.check()
            if lost := self.lost():
                raise lost
            if time.monotonic() > deadline:
                raise RunFailed("rank_lost", f"Rank {min(missing)} did not load the model in time.")
            time.sleep(_LOOK_SECONDS)
        self._store.set("go", "")
        self._stack.enter_context(joined(self._task.place, self._store))
        self._stack.callback(self._end)  # first: the group is not left while others wait in it
        threading.Thread(target=self._watch, name="ranks", daemon=True).start()

    def finished(self) -> None:
        """The followers have nothing more to do: that they end is no loss."""
        self._done.set()

    def lost(self, *, within_seconds: float = 0.0) -> RunFailed | None:
        """Why the first of the followers that failed did so; None: all live."""
        deadline = time.monotonic() + within_seconds
        while True:
            for rank, process in self._followers.items():
                if process.poll() is not None:
                    return self._loss(rank, process.returncode)
            if time.monotonic() >= deadline:
                return None
            time.sleep(_LOOK_SECONDS)

    def _started(self, rank: int, checkpoint: Path | None) -> subprocess.Popen[bytes]:
        orders = Orders(
            rank=rank,
            count=self._task.place.count,
            port=self._store.port,
            checkpoint=checkpoint,
            most_rows_at_once=self._task.most_rows_at_once,
        )
        paths = [source_root(), os.environ.get("PYTHONPATH", "")]
        process = subprocess.Popen(
            [sys.executable, "-m", "modal_app.ranks.follower", str(self._task.directory.path)],
            stdin=subprocess.PIPE,
            env=os.environ
            | environment(rank, orders.count, orders.port)
            | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        assert process.stdin is not None
        process.stdin.write(orders.model_dump_json().encode() + b"\n")
        process.stdin.flush()  # and left open: it closes when this process ends, however it ends
        return process

    def _loss(self, rank: int, code: int) -> RunFailed:
        if self._store.check([said_by(rank)]):
            said = RunError.model_validate_json(self._store.get(said_by(rank)))
            return RunFailed(said.code, f"Rank {rank}: {said.message}"[:2000])
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return RunFailed(
            "rank_lost",
            f"Rank {rank} of {self._task.place.count} {how}. Start the run again: it goes on from its last"
            " checkpoint.",
        )

    def _watch(self) -> None:
        """NCCL waits for a rank that is gone; gloo raises by itself."""
        while not self._done.wait(_LOOK_SECONDS * 10):
            if self.lost():
                log.warning("rank_lost")
                if hardware.device() == "cuda" and not self._done.wait(_GRACE_SECONDS):
                    from torch.distributed.distributed_c10d import _abort_process_group

                    _abort_process_group()
                return

    def _end(self) -> None:
        """No follower lives."""
        deadline = time.monotonic() + (_GRACE_SECONDS if self._done.is_set() else 0.0)
        self._done.set()
        for process in self._followers.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()


def _may_be_of_others(error: Exception) -> bool:
    """Whether a collective may have failed because another rank did."""
    return isinstance(error, RuntimeError)


def _require_gpus(count: int) -> None:
    import torch

    kind = hardware.device()
    there = torch.cuda.device_count() if kind == "cuda" else 1 if kind == "mps" else count
    if there < count:
        raise RunFailed(
            "gpus_missing", f"The run asks for {count} GPUs, and this machine shows {there}. Lower gpu_count."
        )


def _forget(variables: dict[str, str]) -> None:
    for name in variables:
        os.environ.pop(name, None)
