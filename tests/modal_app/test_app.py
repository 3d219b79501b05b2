"""The app as Modal sees it, deployed to Modal's control plane on loopback, and its trainer run right here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from modal_proto import api_pb2
from pydantic import SecretStr

from modal_app import images
from modal_app.app import export, train
from shared.errors import ProviderRejected
from shared.providers.modal import ModalProvider
from shared.training.prices import gpu_prices
from shared.training.spec import RunResult, RunState
from tests.fakes.modal import TOKEN_ID, TOKEN_SECRET, FakeModal
from tests.modal_app import trainers
from tests.modal_app.endpoint import Endpoint
from tests.modal_app.test_remote import work_for
from tests.modal_app.trainers import Trainer
from tests.shared.providers.harness import CHAT_FILE, NOBODY, run_spec

SECRETS = {"fineflow-inference": frozenset({"FINEFLOW_INFERENCE_TOKEN"})}
TRAINERS = ["train", "train_unsloth", "train_axolotl"]
ROOT = Path(__file__).resolve().parents[2]


def deploy(fake: FakeModal, home: Path) -> subprocess.CompletedProcess[str]:
    """As the operator types it."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "MODAL_SERVER_URL": fake.url,
        "MODAL_TOKEN_ID": TOKEN_ID,
        "MODAL_TOKEN_SECRET": TOKEN_SECRET,
    }
    return subprocess.run(
        [sys.executable, "-m", "modal", "deploy", "-m", "modal_app.app"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@dataclass
class Deployed:
    fake: FakeModal

    def function(self, name: str) -> api_pb2.Function:
        return self.fake.deployed.apps["fineflow"][name]

    def commands(self, name: str) -> str:
        return "\n".join(self.fake.deployed.commands(self.function(name).image_id))

    def volumes(self, name: str) -> dict[str, str]:
        mounts = self.function(name).volume_mounts
        return {mount.mount_path: self.fake.deployed.volumes[mount.volume_id] for mount in mounts}


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    with FakeModal({}, secrets=SECRETS) as fake:
        done = deploy(fake, tmp_path_factory.mktemp("home"))
        assert done.returncode == 0, done.stdout + done.stderr
        yield Deployed(fake)
        assert fake.unimplemented == []


def test_everything_is_deployed_and_only_the_server_has_a_secret(deployed: Deployed) -> None:
    functions = deployed.fake.deployed.apps["fineflow"]
    assert set(functions) == {*TRAINERS, "export", "Model.*", "serve"}
    assert [name for name, function in functions.items() if function.secret_ids] == ["serve"]
    assert not any(function.HasField("schedule") for function in functions.values())
    # What runs tuned weights or writes them anew reaches nothing; trainers need the Hub and report-training.
    assert {name for name, function in functions.items() if function.block_network} == {"export", "Model.*"}


@pytest.mark.parametrize("name", TRAINERS)
def test_a_trainer_is_used_once_and_goes_on_at_its_last_checkpoint(deployed: Deployed, name: str) -> None:
    function = deployed.function(name)
    assert (function.resources.gpu_config.gpu_type, function.timeout_secs) == ("L40S", 86_400)
    assert function.single_use_containers
    assert (function.retry_policy.retries, function.retry_policy.initial_delay_ms) == (10, 0)
    assert deployed.volumes(name) == {"/fineflow": "fineflow-runs", "/bases": "fineflow-bases"}
    environment = re.findall(r"^ENV (\w+)=(.*)$", deployed.commands(name), re.MULTILINE)
    assert {"FINEFLOW_DATA_DIR": "/fineflow", "HF_HOME": "/bases"}.items() <= dict(environment).items()


def test_the_code_lies_in_each_container_with_the_files_beside_it(deployed: Deployed) -> None:
    for function in deployed.fake.deployed.apps["fineflow"].values():
        files = {file for mount in function.mount_ids for file in deployed.fake.deployed.mounts[mount]}
        assert {"/root/modal_app/app.py", "/root/shared/training/prices.json"} <= files
        assert not [file for file in files if "functions/" in file or ".env" in file]


def test_the_trainers_image_takes_this_projects_own_pins(deployed: Deployed) -> None:
    commands = deployed.commands("train")
    assert "--constraint /constraints.txt" in commands
    assert "trl==1.16.0" in commands
    installed = commands.index("python -m pip install")
    assert commands.index("COPY") < installed < commands.index('python -c "import torch')


@pytest.mark.parametrize("name", ["unsloth", "axolotl", "vllm"])
def test_an_engines_image_is_locked_and_imports_what_it_installed(deployed: Deployed, name: str) -> None:
    function = "Model.*" if name == "vllm" else f"train_{name}"
    (lock,) = deployed.fake.deployed.context(deployed.function(function).image_id).values()
    assert lock == (images.LOCKS / f"{name}.txt").read_bytes()
    lines = [line for line in lock.decode().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.+!]+", line) for line in lines)
    ours = {"httpx", "jinja2", "pydantic-settings", "stamina", "structlog"}
    assert {*ours, name} <= {line.partition("==")[0].lower() for line in lines}
    assert f'python -c "import {name}' in deployed.commands(function)


def test_the_export_image_has_llama_cpps_converter_and_its_quantizer(deployed: Deployed) -> None:
    commands = deployed.commands("export")
    assert commands.count("llama-cpp-python==0.3.36") == 2
    assert "/vendor/llama.cpp" in commands


@pytest.fixture
async def provider(deployed: Deployed) -> Any:
    made = ModalProvider(
        token_id=SecretStr(TOKEN_ID), token_secret=SecretStr(TOKEN_SECRET), server_url=deployed.fake.url
    )
    yield made
    await made.close()


async def start(provider: ModalProvider, gpu: str | None) -> str:
    spec = run_spec("fineflow/tiny").model_copy(update={"gpu": gpu})
    return await provider.start(spec, CHAT_FILE, idempotency_key=str(uuid4()), callback=NOBODY)


@pytest.mark.parametrize("gpu", [price.gpu for price in gpu_prices("modal")] + ["H100:8"])
async def test_every_gpu_that_has_a_price_can_be_chosen(
    deployed: Deployed, provider: ModalProvider, gpu: str
) -> None:
    call = deployed.fake.runs[await start(provider, gpu)]
    assert (call.app, call.function, call.gpu) == ("fineflow", "train", gpu)


@pytest.mark.parametrize("gpu", ["V100", "H100:9", "A10:5"])
async def test_a_gpu_that_modal_does_not_have_starts_nothing(provider: ModalProvider, gpu: str) -> None:
    with pytest.raises(ProviderRejected):
        await start(provider, gpu)


def test_without_its_secret_nothing_is_deployed(tmp_path: Path) -> None:
    with FakeModal({}) as fake:
        done = deploy(fake, tmp_path)
        assert done.returncode != 0
        assert "fineflow-inference" in done.stdout + done.stderr
        assert fake.deployed.apps == {}


def _train_and_export_here(ticket: dict[str, str], answer: Path) -> None:
    result = train.local(ticket)
    made = [result["artifact_path"], "--format", "gguf", "--output", str(answer.with_name("exported"))]
    export.local(made)
    with pytest.raises(RuntimeError, match="Nothing was exported"):
        export.local(made)  # something lies there already
    answer.write_text(json.dumps(result))


def test_what_is_deployed_trains_and_exports_here_as_well(
    libraries: ForkServerContext, callback: Endpoint, data_dir: Path, tmp_path: Path
) -> None:
    ticket = work_for(callback, data_dir, trainers.facts(12), epochs=2)
    process = libraries.Process(target=_train_and_export_here, args=(ticket.for_wire(), tmp_path / "answer"))
    process.start()
    assert Trainer(data_dir / "runs" / str(ticket.run_id), process).wait() == 0
    result = RunResult.model_validate_json((tmp_path / "answer").read_text())
    assert result.state == RunState.COMPLETED, result.error
    assert Path(result.artifact_path or "", "model.safetensors").exists()
    assert callback.stored[-1].result == result
    assert (tmp_path / "exported" / "model.gguf").stat().st_size > 1_000_000
