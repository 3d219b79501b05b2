"""The app `fineflow` as Modal sees it: `modal deploy -m modal_app.app`. Decorators over plain code.

A trainer is called with a ticket by `shared.providers.modal`, which says on which GPU and for how long. Its
container knows that ticket and no other secret, is used once, and is started again at its last checkpoint
when it is lost. docs/modal.md tells what each function may reach.
"""

# Without `from __future__ import annotations`: Modal reads the type of a parameter where it is written.

from dataclasses import asdict
from pathlib import Path
from typing import Any

import modal

from modal_app import images
from modal_app.settings import machine
from shared import log as logs

APP_NAME = "fineflow"
DEFAULT_GPU = "L40S"  # for a call that names none; start-training names one
LONGEST_SECONDS = 86_400  # the most that Modal gives to one attempt
_ANSWERS_AT_ONCE = 16

app = modal.App(APP_NAME, include_source=False)
bases = modal.Volume.from_name("fineflow-bases", create_if_missing=True)  # the Hub's cache
runs = modal.Volume.from_name("fineflow-runs", create_if_missing=True)  # rows, checkpoints, models
inference_token = modal.Secret.from_name("fineflow-inference", required_keys=["FINEFLOW_INFERENCE_TOKEN"])
log = logs.logger("modal")

_TRAINER: dict[str, Any] = {
    "gpu": DEFAULT_GPU,
    "volumes": {images.RUNS_DIRECTORY: runs, images.BASES_DIRECTORY: bases},
    "timeout": LONGEST_SECONDS,
    "retries": modal.Retries(initial_delay=0.0, max_retries=10),  # 10 is the most that Modal takes
    "single_use_containers": True,  # a second attempt finds no memory of the first
}


@app.function(image=images.TRL, **_TRAINER)
def train(ticket: dict[str, Any]) -> dict[str, Any]:
    """How the run of this ticket ended: a RunResult as JSON values."""
    return _train(ticket)


@app.function(image=images.UNSLOTH, **_TRAINER)
def train_unsloth(ticket: dict[str, Any]) -> dict[str, Any]:
    """As `train`, for runs with the engine unsloth."""
    return _train(ticket)


@app.function(image=images.AXOLOTL, **_TRAINER)
def train_axolotl(ticket: dict[str, Any]) -> dict[str, Any]:
    """As `train`, for runs with the engine axolotl."""
    return _train(ticket)


@app.function(
    image=images.EXPORT,
    volumes={images.RUNS_DIRECTORY: runs},
    cpu=8,
    memory=32_768,
    timeout=7_200,
    single_use_containers=True,
    block_network=True,
)
def export(arguments: list[str]) -> None:
    """As `python -m modal_app.export ARGUMENTS` does, on models and files in the volume of the runs."""
    from modal_app.export.__main__ import main

    if main(arguments):
        raise RuntimeError("Nothing was exported. The last line of the log says why.")
    _keep()


@app.cls(
    image=images.SERVE,
    gpu=machine().serve_gpu,
    volumes={images.RUNS_DIRECTORY: runs, images.BASES_DIRECTORY: bases},
    timeout=600,
    startup_timeout=1_200,
    scaledown_window=300,
    block_network=True,
)
@modal.concurrent(max_inputs=_ANSWERS_AT_ONCE)
class Model:
    """A model that answers, in containers of its own. They go when nobody has asked for five minutes."""

    weights: str = modal.parameter()

    @modal.enter()
    def start(self) -> None:
        """vLLM has the weights in memory."""
        from modal_app.serving.vllm import VllmProcess

        self._vllm = VllmProcess(self.weights, machine().data_dir).__enter__()

    @modal.method()
    def complete(self, request: dict[str, Any]) -> dict[str, Any]:
        """A Completion for a ChatRequest, both as JSON values."""
        from modal_app.serving.chat import ChatRequest

        return asdict(self._vllm.complete(ChatRequest.model_validate(request)))

    @modal.method()
    def warm(self) -> None:
        """A container is up: starting it was all."""

    @modal.exit()
    def stop(self) -> None:
        """vLLM is gone."""
        self._vllm.__exit__()


@app.function(image=images.GATE, secrets=[inference_token], scaledown_window=300)
@modal.concurrent(max_inputs=2 * _ANSWERS_AT_ONCE)
@modal.asgi_app()
def serve() -> Any:
    """The inference server that FINEFLOW_INFERENCE_URL names: it asks for the token, and then a `Model`."""
    from modal_app.serve import Server
    from modal_app.serving.fleet import Fleet

    token = machine().inference_token
    assert token, "the secret fineflow-inference holds it"
    return Server(Fleet(Model), token, at_once=_ANSWERS_AT_ONCE).app()


def _train(ticket: dict[str, Any]) -> dict[str, Any]:
    from modal_app.remote import train_remote
    from shared.training.spec import Ticket

    logs.configure()
    return train_remote(
        Ticket.model_validate(ticket),
        Path(machine().data_dir),
        provider_job_id=modal.current_function_call_id(),
        kept=_keep,
    )


def _keep() -> None:
    """What lies in the volume of the runs outlives this container. Modal also does this by itself, later."""
    if modal.is_local():
        return
    try:
        runs.commit()
    except Exception as error:  # nothing is lost by it as long as the container lives: training goes on
        log.warning("volume_not_committed", cause=type(error).__name__)
