"""`models export` of models whose weights are not here, and what is left when it is stopped."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cli.commands import model_export
from cli.exits import CliError

ROW = {"name": "harbour", "version": 2, "provider": "modal"}


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (None, "modal keeps the weights of harbour:2"),
        ("/fineflow/runs/r/artifact", "not on this machine"),
        ("runs", "not on this machine"),
    ],
)
def test_weights_that_lie_elsewhere_are_told_of(path: str | None, told: str) -> None:
    with pytest.raises(CliError, match=told) as refused:
        model_export._run_directory(ROW | {"artifact_path": path})
    assert refused.value.code == "weights_elsewhere"


async def test_a_stopped_export_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child here is one that would go on for a minute, whatever it is asked."""
    program = tmp_path / "slow"
    mark = tmp_path / "cleaned"
    program.write_text(
        "#!/usr/bin/env python3\nimport time, pathlib\n"
        'print(\'{"bytes_done": 1, "byte_count": 2}\', flush=True)\n'
        f"try:\n    time.sleep(60)\nfinally:\n    pathlib.Path({str(mark)!r}).touch()\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(model_export.sys, "executable", str(program))
    processes: list[Any] = []
    spawn = asyncio.create_subprocess_exec

    async def remembered(*command: str, **options: Any) -> Any:
        processes.append(await spawn(*command, **options))
        return processes[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", remembered)
    work = asyncio.create_task(model_export._exported(tmp_path, [], "harbour:2"))
    while not processes:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.5)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert processes[0].returncode is not None
    assert mark.exists()
