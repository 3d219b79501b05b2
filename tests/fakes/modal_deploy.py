"""The calls of Modal's control plane that it takes to deploy an app, beside those of `modal.py`.

Nothing is built: an image is kept as the commands and files that Modal would build it from. What the real
one is known to refuse is refused: another GPU, too many of them, a longer limit, more retries, a secret that
nobody has made. Limits are those of Modal's guides, read in 2026-11.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from grpclib import GRPCError, Status
from modal_proto import api_pb2

GPU_TYPES = frozenset(
    {"T4", "L4", "A10", "A10G", "L40S", "A100", "A100-40GB", "A100-80GB", "RTX-PRO-6000", "H100", "H100!",
     "H200", "B200", "B200+", "B300"}
)  # fmt: skip
_MOST_GPUS, _MOST_A10 = 8, 4
_LONGEST_SECONDS, _MOST_RETRIES = 86_400, 10
_BUILDER = "2025.06"
Handler = Callable[[Any], Awaitable[Message]]


class Deployments:
    """What was deployed, by its ids; `apps` are the published ones, each with its functions by their tags."""

    def __init__(self, secrets: Mapping[str, frozenset[str]]) -> None:
        """secrets: those that lie in the workspace, with their keys."""
        self.secrets = secrets
        self.apps: dict[str, dict[str, api_pb2.Function]] = {}
        self.images: dict[str, api_pb2.Image] = {}
        self.volumes: dict[str, str] = {}  # id -> name
        self.mounts: dict[str, list[str]] = {}  # id -> file names
        self._functions: dict[str, api_pb2.Function] = {}
        self._ids: dict[str, str] = {}  # by what they stand for
        self.rpcs: dict[str, Handler] = {
            "AppGetByDeploymentName": self._find_app,
            "AppGetLayout": self._layout,
            "AppCreate": self._new_app,
            "AppHeartbeat": self._nothing,
            "AppClientDisconnect": self._nothing,
            "AppPublish": self._publish,
            "EnvironmentGetOrCreate": self._environment,
            "MountBatchedCheckExistence": self._missing_files,
            "MountGetOrCreate": self._mount,
            "VolumeGetOrCreate": self._volume,
            "SecretGetOrCreate": self._secret,
            "ImageGetOrCreate": self._image,
            "FunctionPrecreate": self._announce,
            "FunctionCreate": self._function,
            "ClassCreate": self._class,
        }

    def commands(self, image_id: str) -> list[str]:
        """What the image is built by, from its first layer on."""
        image = self.images[image_id]
        before = [command for base in image.base_images for command in self.commands(base.image_id)]
        return before + list(image.dockerfile_commands)

    def context(self, image_id: str) -> dict[str, bytes]:
        """The files that its build commands read, by their name."""
        image = self.images[image_id]
        before = [self.context(base.image_id) for base in image.base_images]
        files = {file.filename: file.data for file in image.context_files}
        return {name: data for part in [*before, files] for name, data in part.items()}

    async def _nothing(self, _: Message) -> Message:
        return Empty()

    async def _find_app(self, request: api_pb2.AppGetByDeploymentNameRequest) -> Message:
        known = self._id("ap", request.name) if request.name in self.apps else ""
        return api_pb2.AppGetByDeploymentNameResponse(app_id=known)

    async def _layout(self, request: api_pb2.AppGetLayoutRequest) -> Message:
        return api_pb2.AppGetLayoutResponse(app_layout=api_pb2.AppLayout())

    async def _new_app(self, request: api_pb2.AppCreateRequest) -> Message:
        return api_pb2.AppCreateResponse(app_id=self._id("ap", request.description))

    async def _publish(self, request: api_pb2.AppPublishRequest) -> Message:
        self.apps[request.name] = {tag: self._functions[id] for tag, id in request.function_ids.items()}
        return api_pb2.AppPublishResponse(url="https://modal.invalid/app", deployed_at=1.0)

    async def _environment(self, request: api_pb2.EnvironmentGetOrCreateRequest) -> Message:
        settings = api_pb2.EnvironmentSettings(image_builder_version=_BUILDER)
        metadata = api_pb2.EnvironmentMetadata(name=request.deployment_name or "main", settings=settings)
        return api_pb2.EnvironmentGetOrCreateResponse(environment_id="en-1", metadata=metadata)

    async def _missing_files(self, request: api_pb2.MountBatchedCheckExistenceRequest) -> Message:
        return api_pb2.MountBatchedCheckExistenceResponse()  # as if each was uploaded before

    async def _mount(self, request: api_pb2.MountGetOrCreateRequest) -> Message:
        files = [f"{file.filename} {file.sha256_hex}" for file in request.files]
        mount_id = self._id("mo", request.deployment_name or "\n".join(files))
        self.mounts[mount_id] = [file.filename for file in request.files]
        digest = hashlib.sha256("\n".join(files).encode()).hexdigest()
        metadata = api_pb2.MountHandleMetadata(content_checksum_sha256_hex=digest)
        return api_pb2.MountGetOrCreateResponse(mount_id=mount_id, handle_metadata=metadata)

    async def _volume(self, request: api_pb2.VolumeGetOrCreateRequest) -> Message:
        volume_id = self._id("vo", request.deployment_name)
        self.volumes[volume_id] = request.deployment_name
        metadata = api_pb2.VolumeMetadata(name=request.deployment_name)
        return api_pb2.VolumeGetOrCreateResponse(volume_id=volume_id, metadata=metadata)

    async def _secret(self, request: api_pb2.SecretGetOrCreateRequest) -> Message:
        name = request.deployment_name
        if name not in self.secrets:
            raise GRPCError(Status.NOT_FOUND, f"Secret '{name}' not found in environment 'main'.")
        if missing := set(request.required_keys) - self.secrets[name]:
            raise GRPCError(Status.FAILED_PRECONDITION, f"Secret '{name}' has no {', '.join(missing)}.")
        return api_pb2.SecretGetOrCreateResponse(secret_id=self._id("st", name))

    async def _image(self, request: api_pb2.ImageGetOrCreateRequest) -> Message:
        image = request.image
        for base in image.base_images:
            _require(base.image_id in self.images, f"There is no image {base.image_id}.")
        _require(bool(image.dockerfile_commands), "An image needs commands.")
        refuse_gpu(image.gpu_config)
        image_id = self._id("im", image.SerializeToString(deterministic=True).hex())
        self.images[image_id] = image
        return api_pb2.ImageGetOrCreateResponse(
            image_id=image_id,
            result=api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_SUCCESS),
            metadata=api_pb2.ImageMetadata(image_builder_version=_BUILDER),
        )

    async def _announce(self, request: api_pb2.FunctionPrecreateRequest) -> Message:
        return api_pb2.FunctionPrecreateResponse(
            function_id=self._id("fu", f"{request.app_id} {request.function_name}"),
            handle_metadata=_handle(request.function_name, request.function_type),
        )

    async def _function(self, request: api_pb2.FunctionCreateRequest) -> Message:
        function = request.function
        refuse_gpu(function.resources.gpu_config)
        _require(function.image_id in self.images, f"There is no image {function.image_id}.")
        for mount in function.volume_mounts:
            _require(mount.volume_id in self.volumes, f"There is no volume {mount.volume_id}.")
        _require(1 <= function.timeout_secs <= _LONGEST_SECONDS, f"timeout is {function.timeout_secs}.")
        _require(function.retry_policy.retries <= _MOST_RETRIES, f"retries are at most {_MOST_RETRIES}.")
        function_id = self._id("fu", f"{request.app_id} {function.function_name}")
        self._functions[function_id] = function
        return api_pb2.FunctionCreateResponse(
            function_id=function_id,
            function=function,
            function_data=api_pb2.FunctionData(
                ranked_functions=[api_pb2.FunctionData.RankedFunction(rank=0, function=function)]
            ),
            handle_metadata=_handle(function.function_name, function.function_type),
        )

    async def _class(self, request: api_pb2.ClassCreateRequest) -> Message:
        return api_pb2.ClassCreateResponse(
            class_id=self._id("cs", f"{request.app_id} {request.existing_class_id}"),
            handle_metadata=api_pb2.ClassHandleMetadata(),
        )

    def _id(self, kind: str, what: str) -> str:
        return self._ids.setdefault(f"{kind} {what}", f"{kind}-{len(self._ids) + 1:06}")


def refuse_gpu(gpu: api_pb2.GPUConfig) -> None:
    """Raises what Modal answers to a GPU that it does not have."""
    if not gpu.gpu_type:
        return
    _require(gpu.gpu_type in GPU_TYPES, f"There is no GPU {gpu.gpu_type}.")
    most = _MOST_A10 if gpu.gpu_type in ("A10", "A10G") else _MOST_GPUS
    _require(1 <= gpu.count <= most, f"A container has at most {most} {gpu.gpu_type}.")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise GRPCError(Status.INVALID_ARGUMENT, otherwise)


def _handle(name: str, kind: Any) -> api_pb2.FunctionHandleMetadata:
    return api_pb2.FunctionHandleMetadata(
        function_name=name, function_type=kind, definition_id=f"de-{name}",
        web_url=f"https://team--fineflow-{name}.modal.invalid",
    )  # fmt: skip
