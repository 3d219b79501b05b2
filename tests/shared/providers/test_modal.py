"""Modal beyond the contract: what it is told, what its answers mean, and what the SDK does by itself."""

from __future__ import annotations

import asyncio
import importlib.metadata
import inspect
import os
import pickle
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import modal
import pytest
from modal._functions import _Function
from modal.client import _Client
from modal_proto import api_pb2
from pydantic import SecretStr

from shared.errors import (
    ProviderBusy,
    ProviderError,
    ProviderNotEligible,
    ProviderRejected,
    ProviderRunNotFound,
    ProviderUnavailable,
)
from shared.providers import modal as provider_module
from shared.providers.base import ProviderReport
from shared.providers.modal import ModalProvider
from shared.training.config import Engine, TrainingConfig
from shared.training.spec import RunError, RunResult, RunSpec, RunState, Ticket
from tests.fakes.http import Fault
from tests.fakes.modal import TOKEN_ID, TOKEN_SECRET, FakeModal, GenericResult
from tests.shared.providers.harness import CHAT_FILE, NOBODY, run_spec

TRAIN = ("fineflow", "train")
SUCCESS = GenericResult.GENERIC_STATUS_SUCCESS


@pytest.fixture
def fake() -> Any:
    with FakeModal({TRAIN: None}) as running:
        yield running
        assert running.unimplemented == []


def provider_for(url: str, *, secret: str = TOKEN_SECRET, **options: Any) -> ModalProvider:
    return ModalProvider(
        token_id=SecretStr(TOKEN_ID), token_secret=SecretStr(secret), server_url=url, **options
    )


@pytest.fixture
async def provider(fake: FakeModal) -> AsyncIterator[ModalProvider]:
    made = provider_for(fake.url, timeout_seconds=5)
    yield made
    await made.close()


async def start(provider: ModalProvider, spec: RunSpec | None = None) -> str:
    spec = spec or run_spec("fineflow/tiny")
    return await provider.start(spec, CHAT_FILE, idempotency_key=str(spec.job_id), callback=NOBODY)


async def report_of(provider: ModalProvider, fake: FakeModal, value: object) -> ProviderReport:
    ref = await start(provider)
    fake.end(ref, SUCCESS, value=value)
    return await provider.poll(ref)


def returned(state: RunState, code: str | None = None) -> dict[str, Any]:
    error = RunError(code=code, message="So it was.") if code else None
    return RunResult(state=state, error=error).model_dump(mode="json")


# The SDK


def test_the_sdk_is_the_one_that_was_read(fake: FakeModal) -> None:
    """Its protocol and the parts used here are private. After an upgrade read again: the calls in
    shared/providers/modal.py, the answers in tests/fakes/modal.py, modal.exception, and this test."""
    assert importlib.metadata.version("modal") == "1.6.4"
    assert list(inspect.signature(_Client.__init__).parameters)[1:4] == [
        "server_url",
        "client_type",
        "credentials",
    ]
    for rpc in provider_module._CALLS:
        assert hasattr(api_pb2, f"{rpc}Request"), rpc


async def test_the_sdk_alone_would_make_four_runs_of_one_start(fake: FakeModal) -> None:
    client = _Client(fake.url, api_pb2.CLIENT_TYPE_CLIENT, (TOKEN_ID, TOKEN_SECRET))
    await client._open()
    fake.disturb("create", *[Fault(status=503, executed=True)] * 10)
    with pytest.raises(modal.exception.ServiceError):
        await _Function.from_name(*TRAIN, client=client).spawn({})
    await client.close()
    assert len(fake.runs) == 4
    keys = {metadata["x-idempotency-key"] for rpc, _, metadata in fake.requests if rpc == "FunctionMap"}
    assert len(keys) == 1  # what Modal makes of it is not documented


async def test_here_one_start_makes_one_run(provider: ModalProvider, fake: FakeModal) -> None:
    fake.disturb("create", *[Fault(status=503, executed=True)] * 10)
    with pytest.raises(ProviderUnavailable):
        await start(provider)
    assert len(fake.runs) == 1


# Start


async def test_modal_is_told_a_ticket_and_nothing_else(provider: ModalProvider, fake: FakeModal) -> None:
    spec = run_spec("fineflow/tiny", model_name="Canary model", gpu="h100:2")
    ref = await start(provider, spec)
    call = fake.runs[ref]
    assert (call.app, call.function, call.gpu) == (*TRAIN, "H100:2")
    (sent,) = call.arguments
    assert Ticket.model_validate(sent) == Ticket(
        report_url=NOBODY.url, token=NOBODY.token, job_id=spec.job_id, attempt=1, run_id=spec.run_id
    )
    assert call.input_bytes < 8192  # more would be kept in a file store
    everything = "".join(str(request) for _, request, _ in fake.requests)
    assert "Canary model" not in everything
    assert "Nell" not in everything
    assert fake.calls == {"lookup": 1, "bind": 1, "create": 1}


async def test_a_run_that_names_no_gpu_gets_the_one_of_its_estimate(
    provider: ModalProvider, fake: FakeModal
) -> None:
    small, large = run_spec("fineflow/tiny"), run_spec("Qwen/Qwen3-8B", method="full")
    chosen = [fake.runs[await start(provider, spec)].gpu for spec in (small, large)]
    assert chosen == [provider.estimate(spec, CHAT_FILE).gpu for spec in (small, large)]
    assert chosen[0] == "L4"
    assert chosen[1] in ("H200", "B200")


@pytest.mark.parametrize(("job", "call"), [(3_600, 3_600), (604_800, 86_400), (None, 86_400)])
async def test_modal_itself_ends_a_run_at_the_time_limit_of_its_job(
    provider: ModalProvider, fake: FakeModal, job: int | None, call: int
) -> None:
    spec = run_spec("fineflow/tiny").model_copy(update={"timeout_seconds": job})
    assert fake.runs[await start(provider, spec)].timeout_seconds == call


@pytest.mark.parametrize(
    ("engine", "function"),
    [("trl", "train"), ("unsloth", "train_unsloth"), ("axolotl", "train_axolotl")],
)
async def test_each_engine_has_a_function_of_its_own(engine: Engine, function: str) -> None:
    spec = run_spec("Qwen/Qwen3-4B", config=TrainingConfig(engine=engine))
    with FakeModal({("fineflow", function): None}) as fake:
        provider = provider_for(fake.url)
        assert fake.runs[await start(provider, spec)].function == function
        await provider.close()


async def test_several_gpus_are_one_container_of_modal(provider: ModalProvider, fake: FakeModal) -> None:
    spec = run_spec("Qwen/Qwen3-8B", gpu="H100").model_copy(update={"gpu_count": 4})
    assert fake.runs[await start(provider, spec)].gpu == "H100:4"


async def test_a_gpu_that_cannot_be_is_refused(provider: ModalProvider, fake: FakeModal) -> None:
    with pytest.raises(ProviderRejected, match="Invalid GPU count"):
        await start(provider, run_spec("fineflow/tiny", gpu="H100:many"))
    assert fake.runs == {}


@pytest.mark.parametrize("fault", [Fault(status=503), Fault(reset=True), Fault(hang=True)])
@pytest.mark.parametrize("operation", ["lookup", "bind"])
async def test_what_fails_before_the_call_surely_made_none(
    fake: FakeModal, operation: str, fault: Fault
) -> None:
    provider = provider_for(fake.url, timeout_seconds=0.3)
    fake.disturb(operation, fault)
    with pytest.raises(ProviderBusy):
        await start(provider, run_spec("fineflow/tiny", gpu="L4"))
    assert fake.runs == {}
    await provider.close()


@pytest.mark.parametrize("missing", ["app_name", "function_name"])
async def test_an_app_that_is_not_deployed(fake: FakeModal, missing: str) -> None:
    provider = provider_for(fake.url, **{missing: "other"})
    with pytest.raises(ProviderRejected, match="Deploy the training app first") as no:
        await start(provider)
    assert no.value.code == "modal_app_not_deployed"
    await provider.close()


async def test_a_token_that_modal_refuses_is_the_operators(fake: FakeModal) -> None:
    provider = provider_for(fake.url, secret="as-another-canary")
    for call in (start(provider), provider.poll("fc-1"), provider.cancel("fc-1")):
        with pytest.raises(ProviderBusy) as refused:
            await call
        assert refused.value.code == "modal_token_invalid"
        assert "canary" not in str(refused.value.body())
    await provider.close()


async def test_nobody_listens() -> None:
    with FakeModal({}) as gone:
        provider = provider_for(gone.url, timeout_seconds=0.3)
    began = time.monotonic()
    with pytest.raises(ProviderUnavailable):
        await start(provider)
    assert time.monotonic() - began < 2
    await provider.close()


async def test_each_event_loop_has_a_connection_of_its_own(provider: ModalProvider, fake: FakeModal) -> None:
    ref = await start(provider)

    async def elsewhere() -> str:
        status = (await provider.poll(ref)).status
        await provider.close()
        return status

    assert await asyncio.to_thread(asyncio.run, elsewhere()) == "queued"
    assert (await provider.poll(ref)).status == "queued"


# What answers mean

WIRE = {
    400: ProviderRejected,
    401: ProviderBusy,
    403: ProviderNotEligible,
    404: ProviderRunNotFound,
    409: ProviderBusy,
    422: ProviderRejected,
    429: ProviderBusy,
    500: ProviderUnavailable,
    501: ProviderUnavailable,
    503: ProviderUnavailable,
    504: ProviderUnavailable,
}


@pytest.mark.parametrize("status", WIRE)
@pytest.mark.parametrize("operation", ["poll", "cancel"])
async def test_every_refusal_of_the_wire_has_a_meaning(
    provider: ModalProvider, fake: FakeModal, operation: str, status: int
) -> None:
    ref = await start(provider)
    fake.disturb(operation, Fault(status=status))
    with pytest.raises(ProviderError) as refused:
        await (provider.poll(ref) if operation == "poll" else provider.cancel(ref))
    assert type(refused.value) is WIRE[status]


def test_every_error_of_the_sdk_has_a_meaning() -> None:
    provider = provider_for("http://127.0.0.1:9")
    not_found = ProviderRunNotFound("gone")
    errors = [kind for _, kind in inspect.getmembers(modal.exception, inspect.isclass)]
    made = [kind("why") for kind in errors if issubclass(kind, modal.exception.Error) and kind.__init__
            is not modal.exception.ImageBuildError.__init__]  # fmt: skip
    assert len(made) > 25
    for error in made:
        assert isinstance(provider._meaning(error, not_found), ProviderError), type(error)
    assert provider._meaning(ValueError("ours"), not_found) is None


FAILURES = {
    GenericResult.GENERIC_STATUS_FAILURE: "trainer_crashed",
    GenericResult.GENERIC_STATUS_TIMEOUT: "modal_timeout",
    GenericResult.GENERIC_STATUS_INIT_FAILURE: "modal_container_failed",
    GenericResult.GENERIC_STATUS_INTERNAL_FAILURE: "modal_internal_failure",
    GenericResult.GENERIC_STATUS_IDLE_TIMEOUT: "modal_idle_timeout",
    GenericResult.GENERIC_STATUS_MEMORY_MANAGER_EVICTION: "out_of_memory",
    GenericResult.GENERIC_STATUS_MEMORY_THRASHING_EVICTION: "out_of_memory",
    GenericResult.GENERIC_STATUS_KERNEL_OOM_KILL: "out_of_memory",
}


@pytest.mark.parametrize("status", FAILURES)
async def test_a_call_that_failed_says_why(provider: ModalProvider, fake: FakeModal, status: int) -> None:
    ref = await start(provider)
    fake.end(ref, status, exception=f"RuntimeError('no {TOKEN_SECRET}') " + "x" * 5000)
    error = (await provider.poll(ref)).error
    assert error
    assert error.code == FAILURES[status]
    assert len(error.message) < 700
    assert TOKEN_SECRET not in error.message


async def test_what_the_trainer_returned_is_how_it_ended(provider: ModalProvider, fake: FakeModal) -> None:
    completed = RunResult(state=RunState.COMPLETED, artifact_path="/models/x", training_loss=0.5)
    report = await report_of(provider, fake, completed.model_dump(mode="json"))
    assert (report.status, report.result) == ("completed", completed)
    report = await report_of(provider, fake, returned(RunState.FAILED, "disk_full"))
    assert report.status == "failed"
    assert report.error
    assert report.error.code == "disk_full"
    assert (await report_of(provider, fake, returned(RunState.CANCELLED))).status == "cancelled"


async def test_a_call_without_the_claim_is_no_end_of_the_job(
    provider: ModalProvider, fake: FakeModal
) -> None:
    report = await report_of(provider, fake, returned(RunState.INTERRUPTED, "claim_lost"))
    assert report.status == "queued"


async def test_a_trainer_that_reached_nobody_has_failed(provider: ModalProvider, fake: FakeModal) -> None:
    report = await report_of(provider, fake, returned(RunState.INTERRUPTED, "callback_unreachable"))
    assert report.status == "failed"
    assert report.error
    assert report.error.code == "callback_unreachable"


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("status", [SUCCESS, GenericResult.GENERIC_STATUS_FAILURE])
async def test_no_answer_of_a_container_runs_code_here(
    provider: ModalProvider, fake: FakeModal, tmp_path: Path, status: int
) -> None:
    ref = await start(provider)
    path = tmp_path / "made-by-a-pickle"
    fake.runs[ref].result = GenericResult(status=status, data=pickle.dumps(Hostile(path)))
    report = await provider.poll(ref)
    assert report.status == "failed"
    assert report.error
    assert report.error.code == ("result_unreadable" if status == SUCCESS else "trainer_crashed")
    assert not path.exists()


@pytest.mark.parametrize("value", [None, 77, "done", {"state": "great"}, [1]])
async def test_an_answer_of_another_trainer_is_no_success(
    provider: ModalProvider, fake: FakeModal, value: object
) -> None:
    report = await report_of(provider, fake, value)
    assert report.error
    assert report.error.code == "result_unreadable"


async def test_a_result_that_modal_threw_away(provider: ModalProvider, fake: FakeModal) -> None:
    ref = await start(provider)
    fake.runs[ref].is_expired = True
    with pytest.raises(ProviderRunNotFound):
        await provider.poll(ref)


async def test_cancel_leaves_the_container_time_to_save(provider: ModalProvider, fake: FakeModal) -> None:
    ref = await start(provider)
    await provider.cancel(ref)
    (request,) = [request for rpc, request, _ in fake.requests if rpc == "FunctionCallCancel"]
    assert isinstance(request, api_pb2.FunctionCallCancelRequest)
    assert not request.terminate_containers


async def test_keys_and_models_are_not_modals_business(provider: ModalProvider) -> None:
    with pytest.raises(ProviderRejected):
        await provider.delete_model("model")
    assert await provider.find("job") == []


async def test_a_real_function_runs_and_its_error_is_told(fake: FakeModal, provider: ModalProvider) -> None:
    def train(ticket: dict[str, Any]) -> dict[str, Any]:
        raise KeyError(f"{modal.current_function_call_id()} of job {ticket['job_id']}")

    fake.functions[TRAIN] = train
    spec = run_spec("fineflow/tiny")
    ref = await start(provider, spec)
    async with asyncio.timeout(5):
        while (report := await provider.poll(ref)).status == "queued":
            await asyncio.sleep(0.01)
    assert report.error
    assert f"KeyError('{ref} of job {spec.job_id}')" in report.error.message
