"""`fineflow demo` as a user runs it: on a data directory of its own, to the end and interrupted."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = """# The ferry office

The ferry office of Tarnholt opens at 6:40 and closes when the last lamp is out.
The ferry Grey Widow carries 46 passengers and one piano.
A crossing with the Grey Widow takes 35 minutes against the tide.
The bell of the ferry office was cast in 1811 from two broken anchors.
The harbour master Sunniva Kroll keeps the tide book in green ink.
A ticket for a goat costs 3 crowns and must be worn around the neck.
The office cat Ballast sleeps in the drawer of the lost umbrellas.
The winter timetable begins on the second Monday of November.
The lost property shelf holds 118 umbrellas and a trombone.
The fog rule allows no crossing when the red buoy cannot be seen.
The paymaster Edric Vann counts the coins every Thursday at noon.
The oldest passenger of the line is Morwenna Tiddy, who is 104 years old.
The life jackets are stored under the bench with the carved whale.
"""


def start(data_dir: Path, *arguments: str) -> subprocess.Popen[str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("FINEFLOW_", "SUPABASE_"))
    }
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", "demo", *arguments],
        cwd=ROOT,
        env={**kept, "FINEFLOW_DATA_DIR": str(data_dir), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def processes_of(data_dir: Path) -> list[str]:
    """Every process that was given this data directory, in its words or its environment."""
    found = []
    for process in psutil.process_iter():
        try:
            belongs = [*process.cmdline(), process.environ().get("FINEFLOW_DATA_DIR", "")]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(str(data_dir) in word for word in belongs):
            found.append(f"{process.pid} {process.name()}")
    return found


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "a data directory"


def test_a_document_never_seen_before_is_learned(data_dir: Path, tmp_path: Path) -> None:
    page = tmp_path / "ferry office.md"
    page.write_text(PAGE)
    process = start(data_dir, str(page))
    output, _ = process.communicate(timeout=150)
    assert process.returncode == 0, output
    told, last = output.rstrip().rsplit("\n", 1)
    facts = json.loads(last)
    assert (facts["questions"], facts["answers_right_before"]) == (5, 0)
    assert facts["answers_right_after"] >= 4
    assert facts["pairs"] >= 10
    assert facts["realtime_updates"] > 3
    assert facts["realtime_p50_ms"] < 150
    assert "The questions come from the training pairs" in told
    assert "--base-model Qwen/Qwen3-0.6B --method lora" in told
    assert processes_of(data_dir) == []


@pytest.mark.parametrize(
    ("moment", "number", "status"),
    [
        ("Starting Postgres", signal.SIGTERM, 143),
        ("Starting front_door", signal.SIGINT, 130),
        ("signed up", signal.SIGHUP, 129),
        ("Loading libraries", signal.SIGINT, 130),
    ],
)
def test_interrupted_at_any_moment_it_leaves_nothing(
    data_dir: Path, moment: str, number: signal.Signals, status: int
) -> None:
    process = start(data_dir)
    assert process.stdout is not None
    assert any(moment in line for line in process.stdout), "the demo ended before the moment came"
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == status, output
    assert processes_of(data_dir) == []
    assert not (data_dir / "stack.json").exists()


def test_too_short_a_document_is_told_in_a_sentence(data_dir: Path, tmp_path: Path) -> None:
    page = tmp_path / "short.txt"
    page.write_text("The office cat Ballast sleeps in the drawer of the lost umbrellas.")
    process = start(data_dir, str(page))
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Error: " in output
    assert "Traceback" not in output
    assert processes_of(data_dir) == []
