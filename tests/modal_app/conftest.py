"""Trainers that start at once, an endpoint that they report to, and the inference server.

Trainers are forked from a process that has the libraries imported, so that each test pays for its own
steps only. What depends on the order of imports is tested with a process of its own.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.context import ForkServerContext
from pathlib import Path

import httpx
import pytest

from tests.modal_app import trainers
from tests.modal_app.endpoint import Endpoint, endpoint
from tests.modal_app.inference import inference_server
from tests.modal_app.trainers import Trainer


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of every trainer and server of these tests."""
    return tmp_path_factory.mktemp("fineflow")


@pytest.fixture(scope="session")
def libraries(data_dir: Path) -> ForkServerContext:
    """Processes that have torch, transformers and trl imported when they start."""
    environment = {
        "FINEFLOW_DATA_DIR": str(data_dir),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HOME": str(data_dir / "hub"),
        "HF_ENDPOINT": "http://127.0.0.1:9",  # nobody listens there: no test depends on the network
    }
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["modal_app.loop", "trl.trainer.sft_trainer", "trl.trainer.dpo_trainer", "peft", "datasets"]
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        first = context.Process(target=os.getpid)  # from now on the server process has this environment
        first.start()
        first.join()
        first.close()
    return context


@pytest.fixture(scope="session")
def start(libraries: ForkServerContext) -> Callable[[Path], Trainer]:
    """Starts a trainer in a run directory and returns at once."""
    return partial(Trainer.start, libraries)


@pytest.fixture(scope="session")
def new_run(data_dir: Path) -> Callable[..., Path]:
    """Makes a run directory in the data directory."""
    return partial(trainers.new_run, data_dir)


@pytest.fixture
def callback() -> Iterator[Endpoint]:
    """Where trainers of this test report."""
    with endpoint() as state:
        yield state


@pytest.fixture(scope="session")
def client(data_dir: Path) -> Iterator[httpx.Client]:
    """Asks an inference server that reads from the data directory of the trainers."""
    with inference_server(data_dir) as client:
        yield client
