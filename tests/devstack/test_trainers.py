from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from devstack import trainers
from devstack.processes import process_identity
from devstack.trainers import end_trainers

SAVES = """
import pathlib, signal, sys, time
def save(*_):
    pathlib.Path(sys.argv[1], "checkpoint").touch()
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(60)
"""
REFUSES = SAVES.replace("sys.exit(75)", "")


def start(data_dir: Path, name: str, script: str, **changed: object) -> subprocess.Popen[bytes]:
    run_dir = data_dir / "runs" / name
    run_dir.mkdir(parents=True)
    process = subprocess.Popen(
        [sys.executable, "-c", script, run_dir], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    with process.stdout as output:
        assert output.readline() == b"ready\n"
    start_ticks = process_identity(process.pid) if sys.platform == "linux" else None
    identity = {"pid": process.pid, "start_ticks": int(start_ticks) if start_ticks else None, **changed}
    (run_dir / "process.json").write_text(json.dumps(identity))
    return process


async def test_trainers_may_save_before_they_end(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainers, "GRACE_SECONDS", 0.5)
    saves = start(data_dir, "saves", SAVES)
    refuses = start(data_dir, "refuses", REFUSES)
    assert await end_trainers(data_dir) == 2
    assert (saves.wait(5), refuses.wait(5)) == (75, -9)
    assert (data_dir / "runs/saves/checkpoint").exists()
    assert await end_trainers(data_dir) == 0


async def test_a_trainer_is_known_by_its_words_where_there_are_no_ticks(data_dir: Path) -> None:
    process = start(data_dir, "mac", SAVES, start_ticks=None)
    assert await end_trainers(data_dir) == 1
    assert process.wait(5) == 75


async def test_another_process_with_the_pid_of_a_trainer_is_left_alone(data_dir: Path) -> None:
    stranger = start(data_dir, "gone", SAVES, start_ticks=1)
    (data_dir / "runs" / "broken").mkdir()
    (data_dir / "runs" / "broken" / "process.json").write_text('{"pid": ')
    assert await end_trainers(data_dir) == 0
    time.sleep(0.1)
    assert stranger.poll() is None
    os.killpg(stranger.pid, 9)
    stranger.wait()
