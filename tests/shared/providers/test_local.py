"""The local provider with real trainer processes, which wait for a claim that nobody answers."""

import asyncio
import hashlib
import json
import os
import signal
import stat
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
from pydantic import SecretStr

from shared.errors import ProviderRunNotFound
from shared.providers.local import LocalProvider
from shared.providers.local_line import device_names
from shared.training.catalog import TINY, resolve
from shared.training.config import TrainingConfig
from shared.training.files import TrainingFile
from shared.training.spec import Callback, DatasetFile, Progress, RunSpec
from tests.conftest import Figure

CONTENT = b'{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n'
FILE = TrainingFile(CONTENT, hashlib.sha256(CONTENT).hexdigest(), row_count=1, token_count=2, char_count=2)
NOBODY = Callback(url="http://127.0.0.1:9/report-training", token=SecretStr("canary-token"))


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[LocalProvider]:
    yield LocalProvider(tmp_path)
    for process in tmp_path.glob("runs/*/process.json"):
        pid = json.loads(process.read_text())["pid"]
        if psutil.pid_exists(pid):
            os.killpg(pid, signal.SIGKILL)


def spec() -> RunSpec:
    return RunSpec(
        job_id=uuid4(),
        attempt=1,
        run_id=uuid4(),
        base_model=TINY,
        method="full",
        config=resolve(TrainingConfig(), TINY, "full"),
        dataset=DatasetFile(sha256=FILE.sha256, row_count=1),
    )


async def started(provider: LocalProvider) -> str:
    run = spec()
    return await provider.start(run, FILE, idempotency_key=str(run.job_id), callback=NOBODY)


def process_of(tmp_path: Path, ref: str) -> dict[str, Any]:
    return dict(json.loads((tmp_path / "runs" / ref / "process.json").read_text()))


async def test_started_twice_it_is_one_run(provider: LocalProvider, tmp_path: Path) -> None:
    run = spec()
    refs = [
        await provider.start(run, FILE, idempotency_key=str(run.job_id), callback=NOBODY) for _ in range(2)
    ]
    assert refs == [refs[0]] * 2
    assert await provider.find(str(run.job_id)) == refs[:1]
    assert process_of(tmp_path, refs[0])["starts"] == 1
    assert (await provider.poll(refs[0])).status == "queued"
    assert await provider.find(str(uuid4())) == []


async def test_rows_that_are_held_out_lie_beside_the_others(provider: LocalProvider, tmp_path: Path) -> None:
    file = replace(FILE, validation=replace(FILE, content=b"{}\n"))
    dataset, validation = file.parts
    run = spec().model_copy(update={"dataset": dataset, "validation": validation})
    ref = await provider.start(run, file, idempotency_key=str(run.job_id), callback=NOBODY)
    run_dir = tmp_path / "runs" / ref
    assert (run_dir / "train.jsonl").read_bytes() == CONTENT
    assert (run_dir / "validation.jsonl").read_bytes() == b"{}\n"


async def test_another_provider_object_finds_and_stops_it(provider: LocalProvider, tmp_path: Path) -> None:
    """As after a restart of the functions server: the directory is the whole state."""
    ref = await started(provider)
    later = LocalProvider(tmp_path)
    assert await later.find(ref) == [ref]
    await later.cancel(ref)
    await later.cancel(ref)
    async with asyncio.timeout(10):
        while (await later.poll(ref)).status != "cancelled":
            await asyncio.sleep(0.05)
    await later.cancel(ref)


async def test_a_killed_trainer_is_started_again_and_given_up_in_the_end(
    provider: LocalProvider, tmp_path: Path
) -> None:
    ref = await started(provider)
    for start in (1, 2, 3):
        process = process_of(tmp_path, ref)
        assert process["starts"] == start
        await until(lambda: has_its_turn(tmp_path, ref))
        os.killpg(process["pid"], signal.SIGKILL)
        psutil.wait_procs([psutil.Process(process["pid"])] if psutil.pid_exists(process["pid"]) else [], 5)
        report = await provider.poll(ref)
    assert report.status == "failed"
    assert report.error
    assert report.error.code == "trainer_died"
    assert "trainer.log" in report.error.message


async def test_a_trainer_knows_no_secret_of_the_server(
    provider: LocalProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SUPABASE_SECRET_KEY", "API_KEY_ENCRYPTION_SECRET", "OPENAI_API_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, "canary-secret")
    ref = await started(provider)
    environment = psutil.Process(process_of(tmp_path, ref)["pid"]).environ()
    assert "canary" not in str(environment)
    run_dir = tmp_path / "runs" / ref
    assert stat.S_IMODE((run_dir / "callback.json").stat().st_mode) == 0o600
    assert "canary" not in (run_dir / "spec.json").read_text()


async def test_a_run_that_is_gone_is_not_failed(provider: LocalProvider) -> None:
    with pytest.raises(ProviderRunNotFound):
        await provider.poll(str(uuid4()))


@pytest.mark.parametrize("ref", ["../../etc", "", "a/b"])
async def test_a_reference_cannot_leave_the_directory(provider: LocalProvider, ref: str) -> None:
    with pytest.raises(ValueError, match="UUID"):
        await provider.poll(ref)


# The line


def has_its_turn(tmp_path: Path, ref: str) -> bool:
    return not list((tmp_path / "line").glob(f"*-{ref}"))


def trains(tmp_path: Path, ref: str) -> bool:
    """Its process is a trainer now, and no longer one that waits."""
    return "modal_app.run" in psutil.Process(process_of(tmp_path, ref)["pid"]).cmdline()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


def kill(tmp_path: Path, ref: str) -> None:
    pid = process_of(tmp_path, ref)["pid"]
    process = psutil.Process(pid)
    os.killpg(pid, signal.SIGKILL)
    psutil.wait_procs([process], 5)


async def step_of(provider: LocalProvider, ref: str) -> str | None:
    report = await provider.poll(ref)
    assert report.status == "queued"
    assert report.current_step == (report.progress.current_step if report.progress else report.current_step)
    return report.current_step


async def test_one_run_trains_and_the_others_wait_in_the_order_of_their_start(
    provider: LocalProvider, tmp_path: Path
) -> None:
    first, second, third = [await started(provider) for _ in range(3)]
    await until(lambda: trains(tmp_path, first))
    assert await step_of(provider, second) == "Waiting for 1 job before it"
    assert await step_of(provider, third) == "Waiting for 2 jobs before it"
    assert (await provider.poll(third)).progress == Progress(
        progress_percent=0, current_step="Waiting for 2 jobs before it"
    )
    kill(tmp_path, first)  # and nobody looks: the next one begins all the same
    await until(lambda: trains(tmp_path, second))
    assert await step_of(provider, third) == "Waiting for 1 job before it"
    assert not trains(tmp_path, third)


async def test_what_was_killed_goes_before_those_that_wait(provider: LocalProvider, tmp_path: Path) -> None:
    first, second, third = [await started(provider) for _ in range(3)]
    await until(lambda: trains(tmp_path, first))
    kill(tmp_path, first)
    await until(lambda: trains(tmp_path, second))
    assert await step_of(provider, first) == (
        "The trainer was stopped from outside; going on from its last checkpoint"
    )
    assert await step_of(provider, first) == "Waiting for 1 job before it"
    assert await step_of(provider, third) == "Waiting for 2 jobs before it"
    kill(tmp_path, second)
    await until(lambda: trains(tmp_path, first))
    assert not trains(tmp_path, third)


async def test_a_run_that_waits_is_cancelled_at_once(provider: LocalProvider, tmp_path: Path) -> None:
    first, second, third = [await started(provider) for _ in range(3)]
    await until(lambda: trains(tmp_path, first))
    await provider.cancel(second)
    async with asyncio.timeout(5):
        while (await provider.poll(second)).status != "cancelled":
            await asyncio.sleep(0.02)
    assert await step_of(provider, third) == "Waiting for 1 job before it"
    assert has_its_turn(tmp_path, second)  # it left the line
    assert trains(tmp_path, first)


async def test_the_line_outlives_everybody_who_waits_in_it(provider: LocalProvider, tmp_path: Path) -> None:
    """As when the machine is turned off: no process is left, and another server looks at the directories."""
    refs = [await started(provider) for _ in range(3)]
    await until(lambda: trains(tmp_path, refs[0]))
    for ref in reversed(refs):
        kill(tmp_path, ref)
    later = LocalProvider(tmp_path)
    for ref in refs:
        await later.poll(ref)
    await until(lambda: trains(tmp_path, refs[0]))
    steps = [await step_of(later, ref) for ref in refs[1:]]
    assert steps == ["Waiting for 1 job before it", "Waiting for 2 jobs before it"]
    starts = [process_of(tmp_path, ref)["starts"] for ref in refs]
    assert starts == [2, 1, 1]  # who never had a turn has not failed yet


async def test_each_gpu_trains_a_run(
    provider: LocalProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-8f2a/1")
    refs = [await started(provider) for _ in range(3)]
    await until(lambda: all(trains(tmp_path, ref) for ref in refs[:2]))
    seen = [psutil.Process(process_of(tmp_path, ref)["pid"]).environ() for ref in refs[:2]]
    assert sorted(environment["CUDA_VISIBLE_DEVICES"] for environment in seen) == ["4", "GPU-8f2a/1"]
    assert await step_of(provider, refs[2]) == "Waiting for 2 jobs before it"


async def test_who_waits_needs_little(provider: LocalProvider, tmp_path: Path, figure: Figure) -> None:
    first, second = [await started(provider) for _ in range(2)]
    await until(lambda: trains(tmp_path, first))
    memory = psutil.Process(process_of(tmp_path, second)["pid"]).memory_full_info()
    figure(f"a run that waits takes {memory.uss / 1e6:.1f} MB of its own")
    assert memory.uss < 16e6


@pytest.mark.parametrize(
    ("visible", "devices"), [("", ["this"]), ("-1", ["this"]), ("0", ["0"]), ("1, 3", ["1", "3"])]
)
def test_devices_are_those_that_may_be_used(
    visible: str, devices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert device_names() == devices
