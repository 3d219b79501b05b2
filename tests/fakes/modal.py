"""Modal's control plane on loopback: the calls of its gRPC service that it takes to run a function.

The protocol is private to Modal's SDK and was read in modal 1.6.4. Every other call is refused and recorded
in `unimplemented`, so that an SDK which needs more is noticed.

    lookup  FunctionGet            bind    FunctionBindParams, for another GPU or time limit
    create  FunctionMap            poll    FunctionGetOutputs
    cancel  FunctionCallCancel     deploy  what an app is made known by: see modal_deploy
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from grpclib import GRPCError, Status
from grpclib.protocol import H2Protocol
from grpclib.server import Server, Stream
from modal._runtime.execution_context import _set_current_context_ids
from modal._serialization import deserialize, serialize
from modal._utils.grpc_utils import CustomProtoStatusDetailsCodec
from modal_proto import api_pb2
from modal_proto.api_grpc import ModalClientBase

from tests.fakes.http import Fault
from tests.fakes.modal_deploy import Deployments, refuse_gpu

TOKEN_ID, TOKEN_SECRET = "ak-fake-token", "as-canary-secret"
GenericResult = api_pb2.GenericResult
# None: it is started and never ends by itself.
Functions = Mapping[tuple[str, str], Callable[..., Any] | None]

_STATUSES = {
    400: Status.INVALID_ARGUMENT,
    401: Status.UNAUTHENTICATED,
    403: Status.PERMISSION_DENIED,
    404: Status.NOT_FOUND,
    409: Status.ABORTED,
    422: Status.OUT_OF_RANGE,
    429: Status.RESOURCE_EXHAUSTED,
    500: Status.INTERNAL,
    501: Status.UNIMPLEMENTED,
    503: Status.UNAVAILABLE,
    504: Status.DEADLINE_EXCEEDED,
}


class Bound(NamedTuple):
    """A function with what its caller chose; None: as it was deployed."""

    app: str
    function: str
    gpu: str | None = None
    timeout_seconds: int | None = None


@dataclass
class Call:
    """One call of a function, as Modal keeps it."""

    id: str
    app: str
    function: str
    gpu: str | None  # None: that of the deployed function
    timeout_seconds: int | None  # likewise
    arguments: tuple[Any, ...]
    input_bytes: int
    result: GenericResult | None = None
    is_expired: bool = False  # its result was thrown away
    cancels: int = 0


class _Server(Server):
    """Remembers its connections, which grpclib leaves open."""

    def __init__(self, servicers: Collection[Any], *, status_details_codec: Any) -> None:
        super().__init__(servicers, status_details_codec=status_details_codec)
        self.protocols: list[H2Protocol] = []

    def _protocol_factory(self) -> H2Protocol:
        protocol = super()._protocol_factory()
        self.protocols.append(protocol)
        return protocol


class FakeModal:
    """`with FakeModal({("fineflow", "train"): function}) as fake: fake.url`.

    Functions run as threads of this process, each with the id that `modal.current_function_call_id` says.
    """

    def __init__(self, functions: Functions, *, secrets: Mapping[str, frozenset[str]] | None = None) -> None:
        """secrets: those of the workspace, with their keys."""
        self.functions = dict(functions)
        self.deployed = Deployments(secrets or {})
        self.runs: dict[str, Call] = {}  # the oldest first
        self.calls: Counter[str] = Counter()  # by operation, disturbed ones included
        self.requests: list[tuple[str, Message, dict[str, str]]] = []  # RPC, request, metadata
        self.unimplemented: list[str] = []
        self.url = ""
        self._faults: dict[str, list[Fault]] = {}
        self._bound: dict[str, Bound] = {}  # by function id
        self._rpcs: dict[str, tuple[str, Callable[[Any], Awaitable[Message]]]] = {
            "FunctionGet": ("lookup", self._lookup),
            "FunctionBindParams": ("bind", self._bind),
            "FunctionMap": ("create", self._create),
            "FunctionGetOutputs": ("poll", self._poll),
            "FunctionCallCancel": ("cancel", self._cancel),
            **{name: ("deploy", answer) for name, answer in self.deployed.rpcs.items()},
        }
        self._running: set[asyncio.Task[None]] = set()  # held, or the loop may lose them
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._ready = threading.Event()
        self._gone = asyncio.Event()

    def disturb(self, operation: str, *faults: Fault) -> None:
        """The next calls of this operation meet these faults, one each."""
        self._faults.setdefault(operation, []).extend(faults)

    def end(self, ref: str, status: int, *, value: object = None, exception: str = "") -> None:
        """The call has ended with this status of GenericResult, known or not."""
        data = serialize(value) if value is not None else b""
        self.runs[ref].result = GenericResult(status=status, data=data, exception=exception)

    def __enter__(self) -> FakeModal:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._gone.set)
        self._thread.join(10)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._run())
        self._loop.close()

    async def _run(self) -> None:
        handlers = {name: self._handler(name) for name in ModalClientBase.__abstractmethods__}
        servicer = type("Servicer", (ModalClientBase,), handlers)()
        server = _Server([servicer], status_details_codec=CustomProtoStatusDetailsCodec())
        await server.start("127.0.0.1", 0)
        assert server._server is not None
        self.url = f"http://127.0.0.1:{server._server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._gone.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:  # connections being accepted, calls being cancelled, functions that run
            await asyncio.wait(others)
        for protocol in server.protocols:
            protocol.connection.close()
        await server.wait_closed()
        await asyncio.sleep(0)  # a transport closes its socket one turn of the loop later

    def _handler(self, rpc: str) -> Callable[[object, Stream[Any, Any]], Awaitable[None]]:
        async def handle(_: object, stream: Stream[Any, Any]) -> None:
            request = await stream.recv_message()
            if rpc not in self._rpcs:
                self.unimplemented.append(rpc)
                raise GRPCError(Status.UNIMPLEMENTED, f"This control plane has no {rpc}.")
            operation, answer = self._rpcs[rpc]
            metadata = {name: str(value) for name, value in (stream.metadata or {}).items()}
            self.calls[operation] += 1
            self.requests.append((rpc, request, metadata))
            waiting = self._faults.get(operation)
            await self._answer(stream, request, waiting.pop(0) if waiting else Fault(), metadata, answer)

        return handle

    async def _answer(
        self,
        stream: Stream[Any, Any],
        request: Message,
        fault: Fault,
        metadata: Mapping[str, str],
        answer: Callable[[Any], Awaitable[Message]],
    ) -> None:
        await asyncio.sleep(fault.delay_seconds)
        if (metadata.get("x-modal-token-id"), metadata.get("x-modal-token-secret")) != (
            TOKEN_ID,
            TOKEN_SECRET,
        ):
            raise GRPCError(Status.UNAUTHENTICATED, "Token validation failed.")
        disturbs = fault.status is not None or fault.hang or fault.reset
        response = await answer(request) if fault.executed or not disturbs else None
        if fault.hang:
            await asyncio.sleep(3600)
        if fault.reset:
            stream._stream._transport.abort()
            await asyncio.sleep(3600)  # until this stream is noticed to be gone
        if fault.status is not None:
            raise _refusal(fault)
        assert response is not None
        await stream.send_message(response)

    async def _lookup(self, request: api_pb2.FunctionGetRequest) -> Message:
        is_deployed = request.object_tag in self.deployed.apps.get(request.app_name, ())
        if (request.app_name, request.object_tag) not in self.functions and not is_deployed:
            raise GRPCError(Status.NOT_FOUND, f"App {request.app_name} has no {request.object_tag}.")
        function = api_pb2.Function(function_name=request.object_tag)
        ranked = api_pb2.FunctionData.RankedFunction(rank=0, function=function)
        return api_pb2.FunctionGetResponse(
            function_id=self._function_id(Bound(request.app_name, request.object_tag)),
            function=api_pb2.FunctionData(function_name=request.object_tag, ranked_functions=[ranked]),
            handle_metadata=_metadata(request.object_tag),
        )

    async def _bind(self, request: api_pb2.FunctionBindParamsRequest) -> Message:
        plain = self._bound[request.function_id]
        options = request.function_options
        gpu = options.resources.gpu_config
        refuse_gpu(gpu)
        named = gpu.gpu_type if gpu.count == 1 else f"{gpu.gpu_type}:{gpu.count}"
        bound = plain._replace(
            gpu=named if gpu.gpu_type else None,
            timeout_seconds=options.timeout_secs if options.HasField("timeout_secs") else None,
        )
        return api_pb2.FunctionBindParamsResponse(
            bound_function_id=self._function_id(bound), handle_metadata=_metadata(plain.function)
        )

    async def _create(self, request: api_pb2.FunctionMapRequest) -> Message:
        bound = self._bound[request.function_id]
        (item,) = request.pipelined_inputs
        arguments, _ = deserialize(item.input.args, None)
        call = Call(f"fc-{len(self.runs) + 1:06}", *bound, arguments, len(item.input.args))
        self.runs[call.id] = call
        function = self.functions.get((bound.app, bound.function))
        if function is not None:
            task = self._loop.create_task(self._execute(call, function))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        put = api_pb2.FunctionPutInputsResponseItem(idx=0, input_id=f"in-{call.id}")
        return api_pb2.FunctionMapResponse(function_call_id=call.id, pipelined_inputs=[put])

    async def _execute(self, call: Call, function: Callable[..., Any]) -> None:
        def run() -> Any:
            _set_current_context_ids([f"in-{call.id}"], [call.id], [""])
            return function(*call.arguments)

        try:
            value = await asyncio.to_thread(run)
        except Exception as error:
            result = GenericResult(
                status=GenericResult.GENERIC_STATUS_FAILURE, exception=repr(error), data=serialize(error)
            )
        else:
            result = GenericResult(status=GenericResult.GENERIC_STATUS_SUCCESS, data=serialize(value))
        call.result = call.result or result

    async def _poll(self, request: api_pb2.FunctionGetOutputsRequest) -> Message:
        call = self._call(request.function_call_id)
        if call.result is None or call.is_expired:
            return api_pb2.FunctionGetOutputsResponse(num_unfinished_inputs=int(not call.is_expired))
        pickled = api_pb2.DATA_FORMAT_PICKLE
        output = api_pb2.FunctionGetOutputsItem(idx=0, result=call.result, data_format=pickled)
        return api_pb2.FunctionGetOutputsResponse(outputs=[output])

    async def _cancel(self, request: api_pb2.FunctionCallCancelRequest) -> Message:
        call = self._call(request.function_call_id)
        call.cancels += 1
        if call.result is None:
            call.result = GenericResult(
                status=GenericResult.GENERIC_STATUS_TERMINATED, exception="Input was cancelled by user"
            )
        return Empty()

    def _call(self, ref: str) -> Call:
        if ref not in self.runs:
            raise GRPCError(Status.NOT_FOUND, f"Function call {ref} not found.")
        return self.runs[ref]

    def _function_id(self, wanted: Bound) -> str:
        for known, bound in self._bound.items():
            if bound == wanted:
                return known
        new = f"fu-{len(self._bound) + 1:06}"
        self._bound[new] = wanted
        return new


def _metadata(name: str) -> api_pb2.FunctionHandleMetadata:
    return api_pb2.FunctionHandleMetadata(
        function_name=name,
        function_type=api_pb2.Function.FUNCTION_TYPE_FUNCTION,
        supported_input_formats=[api_pb2.DATA_FORMAT_PICKLE, api_pb2.DATA_FORMAT_CBOR],
        supported_output_formats=[api_pb2.DATA_FORMAT_PICKLE, api_pb2.DATA_FORMAT_CBOR],
    )


def _refusal(fault: Fault) -> GRPCError:
    assert fault.status is not None
    message = (fault.body or {}).get("error", {}).get("message", "injected")
    wait = fault.headers.get("retry-after")
    details = [api_pb2.RPCRetryPolicy(retry_after_secs=float(wait))] if wait else None
    return GRPCError(_STATUSES[fault.status], message, details)
