"""The image for Hugging Face Jobs: its Dockerfile has the pins and libraries of the one at Modal, and what it
copies is all that the trainer needs. No image is built here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from modal_app import images
from shared.providers.huggingface import COMMAND
from shared.training.spec import TrainerExit

ROOT = Path(__file__).resolve().parents[2]
LINES = (ROOT / "modal_app" / "huggingface" / "Dockerfile").read_text().splitlines()


def arguments(instruction: str) -> list[str]:
    """What stands behind each instruction of this kind."""
    return [line.partition(" ")[2] for line in LINES if line.startswith(f"{instruction} ")]


def test_it_installs_the_pins_of_the_project_and_imports_the_libraries_of_the_trainer() -> None:
    assert arguments("FROM") == [f"python:{images.PYTHON}-slim"]
    _, install, check = arguments("RUN")
    assert install == 'pip install --no-cache-dir --constraint constraints.txt ".[train]"'
    assert check == f'python -c "import {", ".join(images.LIBRARIES)}"'


def test_every_requirement_of_the_trainer_has_an_exact_pin() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["train"]
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if re.fullmatch(r"[A-Za-z0-9_.-]+==[^=]+", line)
    }
    names = {re.split(r"[\[<>=!~ ]", requirement)[0].lower().replace("_", "-") for requirement in wanted}
    assert names <= pinned


def test_it_runs_what_the_provider_starts_and_holds_no_secret() -> None:
    assert [json.loads(command) for command in arguments("CMD")] == [list(COMMAND)]
    assert not arguments("ARG")
    assert not re.search(r"TOKEN|SECRET|KEY|PASSWORD", " ".join(arguments("ENV")))


def test_the_trainer_starts_with_what_is_copied_and_nothing_else(tmp_path: Path) -> None:
    for copied in arguments("COPY"):
        *sources, target = copied.split()
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, tmp_path / target)
            else:
                shutil.copy(ROOT / source, tmp_path / target)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    program = (
        "import sys, modal_app.loop, modal_app.remote as remote;"
        "ours = [m.__file__ or '' for n, m in sys.modules.items() if n.split('.')[0] in"
        " ('cli', 'devstack', 'functions', 'modal_app', 'shared')];"
        "assert all(file.startswith(sys.argv[1]) for file in ours), ours;"
        "remote.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == TrainerExit.FAILED, done.stderr
    assert "no_ticket" in done.stderr
