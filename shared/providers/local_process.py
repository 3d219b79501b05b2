"""The process of a run on this machine: how it is started, known again, and signalled."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

from pydantic import ConfigDict

from shared.providers import local_line
from shared.providers.local_turn import LIFE, PLACE
from shared.training.catalog import TINY
from shared.training.config import Record
from shared.training.spec import RunSpec

PROJECT_ROOT = Path(__file__).resolve().parents[2]
# All that a trainer may know of this process: no key and no secret is among them.
_ENVIRONMENT = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "HF_HOME", "HF_HUB_OFFLINE",
    "CUDA_VISIBLE_DEVICES", "FINEFLOW_DATA_DIR",
)  # fmt: skip
_ABOVE_THE_CHILDS = 64  # descriptors with other numbers than those that a child gets

# Of this process, whoever started them. One that has ended is a zombie until asked for.
_children: set[int] = set()


class Process(Record):
    """`process.json`: the latest process of a run, and what became of those before it."""

    model_config = ConfigDict(extra="ignore")

    pid: int
    start_ticks: int | None = None  # when it started, see _start_ticks
    starts: int = 1  # of a trainer, this one included if it gets its turn
    waits: int = 1  # of a process, this one included
    place: str = ""  # the name of its entry in the line

    @classmethod
    def read(cls, run_dir: Path) -> Process | None:
        """None: there was none yet."""
        try:
            return cls.model_validate_json((run_dir / "process.json").read_bytes())
        except FileNotFoundError:
            return None

    def lives(self) -> bool:
        """Whether it is there, and still the same one: numbers are given again."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return self.start_ticks is None or self.start_ticks == _start_ticks(self.pid)

    def signal(self, number: int) -> None:
        """The process and its children got this signal, if they had not ended."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return  # it ended meanwhile, which is what was wanted


def is_alive(run_dir: Path) -> bool:
    """Whether a process of ours lives, or somebody trains here by hand."""
    return local_line.is_held(run_dir / "alive.lock") or local_line.is_held(run_dir / "run.lock")


def spawn(run_dir: Path, spec: RunSpec, *, line: Path, past: Process | None = None) -> None:
    """A process of this run waits in the line, at the place that the run had before, if it had one.

    Nothing is started when one lives already. past: the process before it, its counts as they stand.
    """
    life = local_line.try_lock(run_dir / "alive.lock")
    if life is None:
        return  # somebody else started one meanwhile
    entry, place = local_line.join(line, run_dir.name, past.place if past else "")
    held = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _ABOVE_THE_CHILDS) for number in (life, place)]
    try:
        pid = _start(run_dir, entry, spec, *held)
    finally:
        for number in (life, place, *held):
            os.close(number)
    _children.add(pid)
    known = Process(
        pid=pid,
        start_ticks=_start_ticks(pid),
        starts=(past.starts if past else 0) + 1,
        waits=(past.waits if past else 0) + 1,
        place=entry.name,
    )
    draft = run_dir / "process.tmp"
    draft.write_text(known.model_dump_json())
    draft.replace(run_dir / "process.json")


def collect_ended() -> None:
    """No child of this process that has ended is a zombie."""
    for pid in tuple(_children):
        try:
            ended, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            ended = pid
        if ended:
            _children.discard(pid)


def _start(run_dir: Path, entry: Path, spec: RunSpec, life: int, place: int) -> int:
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    environment |= {
        "FINEFLOW_DATA_DIR": str(run_dir.parents[1]),
        "PYTHONPATH": str(PROJECT_ROOT),
        "PYTHONUNBUFFERED": "1",
    }
    if spec.root_base_model == TINY:
        environment["OMP_NUM_THREADS"] = "1"  # its matrices are too small to share out
    log = run_dir / "trainer.log"
    # Not subprocess: nobody here waits for the trainer, which may outlive this process.
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "shared.providers.local_turn", str(run_dir), str(entry)],
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
            (os.POSIX_SPAWN_DUP2, life, LIFE),
            (os.POSIX_SPAWN_DUP2, place, PLACE),
        ],
        setsid=True,
    )


def _start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (proc(5), field 22). None: no /proc here."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(after_name[19])
