"""Trains in Modal containers, in the workspace of the team that deployed FineFlow.

A call is started with a ticket and nothing else: the trainer fetches its work with the claim. Modal can
neither search its calls nor be told to make one only once; the claim of the attempt does both. A call
that is made although its answer was lost costs seconds: the trainer that has no claim leaves before it
touches the GPU, and the one that has it says which call it is.

This talks through parts of the SDK that are not public, so its version is pinned and test_modal.py reads
what is used. The public ones send the call that makes a run up to four times, on any lost answer; they
unpickle whatever a container answered, in the process that holds the service key; and they tell a
cancelled call from one that ran out of memory by an English sentence.
"""

from __future__ import annotations

import asyncio
import io
import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from shared.errors import (
    ProviderBusy,
    ProviderError,
    ProviderNotEligible,
    ProviderRejected,
    ProviderRunNotFound,
    ProviderUnavailable,
)
from shared.keys.store import OpenedKey
from shared.providers.base import KeyFacts, ProviderReport, ReportedStatus
from shared.providers.wire import before_create, silence, told
from shared.training import estimate
from shared.training.config import METHODS
from shared.training.files import TrainingFile
from shared.training.prices import counted_gpu
from shared.training.sizing.gpu_run import NOTHING_MORE, Known
from shared.training.spec import Callback, RunError, RunResult, RunSpec, RunState, Ticket

if TYPE_CHECKING:
    from modal._grpc_client import UnaryUnaryWrapper
    from modal.client import _Client
    from modal_proto import api_pb2

_CALLS = ("FunctionGet", "FunctionBindParams", "FunctionMap", "FunctionPutInputs", "FunctionGetOutputs",
          "FunctionCallCancel")  # fmt: skip

_LONGEST_SECONDS = 86_400  # the most that Modal gives to one attempt
_ENDS: dict[RunState, ReportedStatus] = {
    RunState.COMPLETED: "completed",
    RunState.FAILED: "failed",
    RunState.CANCELLED: "cancelled",
}
_NO_MEMORY = (
    "out_of_memory",
    "The container of the trainer ran out of memory. Lower batch_size or max_length, or choose another GPU.",
)
# Every end of a call but success and TERMINATED, which is a cancel. Each is final, Modal repeats no more.
_FAILURES: dict[str, tuple[str, str]] = {
    "GENERIC_STATUS_FAILURE": ("trainer_crashed", "The trainer ended with an error: {reason}"),
    "GENERIC_STATUS_TIMEOUT": (
        "modal_timeout",
        "Modal stopped the trainer at the time limit of the job, or after 24 hours. Raise timeoutSeconds, or"
        " train less.",
    ),
    "GENERIC_STATUS_INIT_FAILURE": (
        "modal_container_failed",
        "The container of the trainer did not start: {reason} Deploy the training app again.",
    ),
    "GENERIC_STATUS_INTERNAL_FAILURE": (
        "modal_internal_failure",
        "Modal lost the trainer: {reason} Start the job again.",
    ),
    "GENERIC_STATUS_IDLE_TIMEOUT": (
        "modal_idle_timeout",
        "Modal stopped the container of the trainer as idle. Start the job again.",
    ),
    "GENERIC_STATUS_MEMORY_MANAGER_EVICTION": _NO_MEMORY,
    "GENERIC_STATUS_MEMORY_THRASHING_EVICTION": _NO_MEMORY,
    "GENERIC_STATUS_KERNEL_OOM_KILL": _NO_MEMORY,
}


class ModalProvider:
    """Calls the function `function_name` of the deployed app `app_name`; its calls' ids are the runs.

    An engine other than trl has a function of its own: `train_unsloth` beside `train`.
    """

    name = "modal"
    key = None  # the token is the deployment's, not a user's
    methods = METHODS
    runs_our_trainer = True
    keeps_disk = True
    late_seconds = 60.0  # a call that arrives even later finds its attempt given up, and gets no claim

    def __init__(
        self,
        *,
        app_name: str = "fineflow",
        function_name: str = "train",
        token_id: SecretStr,
        token_secret: SecretStr,
        server_url: str | None = None,  # None: as Modal's own configuration says
        environment: str | None = None,  # None: the workspace's default
        timeout_seconds: float = 30,
    ) -> None:
        self._app_name, self._function_name = app_name, function_name
        self._token_id, self._token_secret = token_id, token_secret
        self._server_url, self._environment = server_url, environment
        self._timeout_seconds = timeout_seconds
        self._opening: asyncio.Task[_Client] | None = None

    async def start(
        self,
        spec: RunSpec,
        dataset: TrainingFile,
        *,
        idempotency_key: str,
        callback: Callback,
        key: OpenedKey | None = None,
    ) -> str:
        """The id of a new call. Called again it makes another one, which will not get the claim."""
        from modal._functions import _Function

        ticket = Ticket(
            report_url=callback.url,
            token=callback.token,
            job_id=spec.job_id,
            attempt=spec.attempt,
            run_id=spec.run_id,
        )
        engine = spec.config.engine
        function_name = self._function_name if engine == "trl" else f"{self._function_name}_{engine}"
        not_deployed = ProviderRejected(
            f"Modal has no function {function_name} in the app {self._app_name}. "
            "Deploy the training app first.",
            code="modal_app_not_deployed",
        )
        with before_create():
            async with self._asking(not_deployed) as client:
                # Looked up each time: what was deployed meanwhile has another id.
                function = _Function.from_name(
                    self._app_name, function_name, environment_name=self._environment, client=client
                )
                gpu = spec.gpu or self.estimate(spec, dataset).gpu
                seconds = min(spec.timeout_seconds or _LONGEST_SECONDS, _LONGEST_SECONDS)
                # Whatever becomes of us, Modal ends and bills no attempt after the time limit of the job.
                if gpu:
                    gpu = counted_gpu(self.name, gpu, spec.gpu_count)
                function = function.with_options(gpu=gpu, timeout=seconds)
                await function.hydrate()
        async with self._asking(not_deployed):
            call = await function.spawn(ticket.for_wire())
        return str(call.object_id)

    async def find(self, idempotency_key: str, *, key: OpenedKey | None = None) -> list[str]:
        """Always empty: Modal's calls carry no name. The trainer's claim says which call it is."""
        return []

    async def poll(
        self, provider_job_id: str, *, key: OpenedKey | None = None, cursor: str | None = None
    ) -> ProviderReport:
        """Modal knows of an end only: whether a call waits or trains, the trainer itself reports."""
        from modal._functions import _Invocation

        async with self._asking(_not_found(provider_job_id)) as client:
            call = _Invocation(client._stub, provider_job_id, client)
            answer = await call.pop_function_call_outputs(timeout=0)
        if answer.outputs:
            return self._ended(answer.outputs[0])
        if answer.num_unfinished_inputs == 0:
            raise ProviderRunNotFound(f"Modal does not keep the result of {provider_job_id} any more.")
        return ProviderReport("queued")

    async def cancel(self, provider_job_id: str, *, key: OpenedKey | None = None) -> None:
        """A call that waits is gone; a trainer gets the signal USR1 and stops at a checkpoint."""
        from modal_proto import api_pb2

        async with self._asking(_not_found(provider_job_id)) as client:
            await client._stub.FunctionCallCancel(
                api_pb2.FunctionCallCancelRequest(function_call_id=provider_job_id)
            )

    async def delete_model(self, provider_model_id: str, *, key: OpenedKey | None = None) -> None:
        raise ProviderRejected("Models trained at Modal are files of yours.", code="model_not_at_provider")

    async def check_key(self, key: OpenedKey) -> KeyFacts:
        raise ProviderRejected("Modal's token belongs to the deployment.", code="no_key_needed")

    def estimate(
        self, spec: RunSpec, dataset: TrainingFile, known: Known = NOTHING_MORE
    ) -> estimate.Estimate:
        return estimate.on_gpu(spec, dataset, provider="modal", gpu=spec.gpu, known=known)

    async def close(self) -> None:
        """The connection is closed. The next call opens another."""
        opening, self._opening = self._opening, None
        if opening is None:
            return
        opening.cancel()
        if opening.done() and not _has_failed(opening):
            await opening.result().close()

    @asynccontextmanager
    async def _asking(self, not_found: ProviderError) -> AsyncIterator[_Client]:
        """A client, and for what happens with it the errors of a provider."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                yield await self._client()
        except Exception as error:
            meaning = self._meaning(error, not_found)
            if meaning is None:
                raise
            raise meaning from None  # the SDK's own error may quote the request, and with it the token

    async def _client(self) -> _Client:
        """The client of this event loop, to which its connection belongs."""
        loop = asyncio.get_running_loop()
        opening = self._opening
        if opening is None or opening.get_loop() is not loop or _has_failed(opening):
            opening = self._opening = loop.create_task(self._open())
            opening.add_done_callback(_has_failed)  # looked at, though nobody may wait any more
        return await asyncio.shield(opening)  # who gives up takes the connection from nobody

    async def _open(self) -> _Client:
        from modal.client import _Client
        from modal.config import config
        from modal_proto import api_pb2

        token = (self._token_id.get_secret_value(), self._token_secret.get_secret_value())
        client = _Client(self._server_url or config["server_url"], api_pb2.CLIENT_TYPE_CLIENT, token)
        try:
            await client._open()  # type: ignore[no-untyped-call]  # the SDK has no types there
        except BaseException:
            await client.close()
            raise
        for name in _CALLS:
            setattr(client._stub, name, _SentOnce(getattr(client._stub, name)))
        return client

    def _meaning(self, error: Exception, not_found: ProviderError) -> ProviderError | None:
        """What an error of the SDK says; None: it is none of its errors."""
        from grpclib.exceptions import ProtocolError, StreamTerminatedError
        from h2.exceptions import ProtocolError as H2ProtocolError
        from modal import exception as sdk

        reason = self._told(str(error))
        match error:
            case sdk.NotFoundError():
                return not_found
            case sdk.AuthError():
                return ProviderBusy(
                    "Modal does not accept the token of this deployment. Its operator must set a valid one.",
                    code="modal_token_invalid",
                )
            case sdk.PermissionDeniedError():
                return ProviderNotEligible(f"Modal does not let this deployment do that: {reason}")
            case sdk.ResourceExhaustedError() | sdk.ConflictError():  # refused before anything happened
                return ProviderBusy(f"Modal is busy: {reason}", retry_after_seconds=_wait_seconds(error))
            case sdk.InvalidError() | sdk.AlreadyExistsError():
                return ProviderRejected(f"Modal said no: {reason}")
            case sdk.Error():  # the server broke, the connection did, or one of both is too old for the other
                return ProviderUnavailable(f"Modal did not answer: {type(error).__name__}: {reason}")
            case OSError() | TimeoutError() | StreamTerminatedError() | ProtocolError() | H2ProtocolError():
                return silence("Modal", error)
        return None

    def _ended(self, output: api_pb2.FunctionGetOutputsItem) -> ProviderReport:
        from modal_proto import api_pb2

        statuses = api_pb2.GenericResult.GenericStatus
        status = output.result.status
        if status == statuses.GENERIC_STATUS_SUCCESS:
            return _returned(output)
        if status == statuses.GENERIC_STATUS_TERMINATED:
            return ProviderReport("cancelled", "Cancelled")
        failure = _FAILURES.get(statuses.Name(status)) if status in statuses.values() else None
        if failure is None:  # a word that we do not know is no end
            return ProviderReport("training")
        code, sentence = failure
        message = sentence.format(reason=self._told(output.result.exception) or "no reason was given.")
        return ProviderReport("failed", error=RunError(code=code, message=message))

    def _told(self, text: str) -> str:
        return told(text, self._token_secret)


class _SentOnce:
    """A call of the control plane without the SDK's repeats: a second FunctionMap would be a second run."""

    def __init__(self, call: UnaryUnaryWrapper[Any, Any]) -> None:
        self._call = call

    async def __call__(
        self, request: Any, *, retry: object = None, metadata: list[tuple[str, str]] | None = None
    ) -> Any:
        return await self._call(request, retry=None, metadata=metadata)


class _PlainUnpickler(pickle.Unpickler):
    """Reads numbers, texts, lists and dicts. Anything else in a pickle could run code here."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} is no plain value")


def _returned(output: api_pb2.FunctionGetOutputsItem) -> ProviderReport:
    """What the trainer itself said of its end."""
    try:
        value = _PlainUnpickler(io.BytesIO(output.result.data)).load()
        result = RunResult.model_validate(value)
    except (pickle.UnpicklingError, ValueError, EOFError, LookupError, AttributeError, TypeError):
        error = RunError(
            code="result_unreadable",
            message="The deployed trainer answered in a way that this server does not know. Deploy it again.",
        )
        return ProviderReport("failed", error=error)
    error = result.error or RunError(code="trainer_failed", message="The trainer failed without a reason.")
    if error.code == "claim_lost" and result.state == RunState.INTERRUPTED:
        return ProviderReport("queued")  # another call has the job, and its claim will say which
    status = _ENDS.get(RunState(result.state), "failed")
    return ProviderReport(
        status,
        status.capitalize(),
        result=result if status != "failed" else None,
        error=error if status == "failed" else None,
    )


def _not_found(provider_job_id: str) -> ProviderRunNotFound:
    return ProviderRunNotFound(f"Modal knows no call {provider_job_id}.")


def _wait_seconds(error: Exception) -> float | None:
    for detail in getattr(error, "_grpc_details", None) or ():
        if hasattr(detail, "retry_after_secs"):
            return float(detail.retry_after_secs)
    return None


def _has_failed(opening: asyncio.Task[_Client]) -> bool:
    return opening.done() and (opening.cancelled() or opening.exception() is not None)
