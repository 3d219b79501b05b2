"""chat: an OpenAI-shaped chat completion from the model behind a name. Every call is recorded."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal
from uuid import UUID, uuid4

from pydantic import BaseModel, ConfigDict, Field

from functions.context import Context
from shared.db import Row
from shared.errors import Conflict, FineFlowError, InvalidRequest, NotFound
from shared.models.serving import Answer, ask
from shared.models.stored import stored
from shared.training.catalog import CATALOG


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1, max_length=200_000)


class ChatRequest(BaseModel):
    """OpenAI's names, so that its SDKs can call this address; the last four fields are ours."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    model: str = Field(min_length=1, max_length=200, description="A deployment, a model id, or a base model.")
    messages: list[Message] = Field(min_length=1, max_length=200)
    max_tokens: int = Field(default=256, ge=1, le=2048)
    temperature: float = Field(default=0, ge=0, le=2)
    seed: int | None = Field(default=None, ge=0, le=2**31 - 1)
    stream: Literal[False] = False
    user: str | None = Field(default=None, max_length=200)
    project_id: UUID | None = Field(
        default=None, description="Needed when a name exists in several projects."
    )
    node_type: str = Field(default="api", max_length=60)
    execution_id: str | None = Field(default=None, max_length=200)


class Choice(BaseModel):
    index: int = 0
    message: Message
    finish_reason: str


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Served(BaseModel):
    model_config = ConfigDict(protected_namespaces=())

    model_id: UUID | None  # None: a base model
    deployment_id: UUID | None
    latency_ms: int


class ChatCompletion(BaseModel):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    fineflow: Served


@dataclass(frozen=True)
class _Target:
    """What answers: where its weights are, and what the call is booked on."""

    ref: str
    project_id: str
    model_id: str | None = None
    deployment_id: str | None = None
    base_model: str | None = None


async def handle(request: ChatRequest, context: Context) -> ChatCompletion:
    """The model's answer. Success or not, one row of model_usage says so."""
    target = await _resolve(request, context)
    body = request.model_dump(include={"messages", "max_tokens", "temperature", "seed"}, exclude_none=True)
    started = time.monotonic()
    try:
        answer = await ask(context.settings, await _weights(target.ref, context), body)
    except FineFlowError as error:
        await _record(request, context, target, started, error_code=error.code)
        raise
    latency_ms = await _record(request, context, target, started, answer=answer)
    return ChatCompletion(
        id=f"chatcmpl-{uuid4().hex}",
        created=int(time.time()),
        model=request.model,
        choices=[
            Choice(
                # An untrained model may say nothing at all, which is an answer too.
                message=Message.model_construct(role="assistant", content=answer.content),
                finish_reason=answer.finish_reason,
            )
        ],
        usage=Usage(
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            total_tokens=answer.prompt_tokens + answer.completion_tokens,
        ),
        fineflow=Served(model_id=target.model_id, deployment_id=target.deployment_id, latency_ms=latency_ms),
    )


async def _weights(ref: str, context: Context) -> str:
    """What the inference server knows the model by. One in Storage is fetched to the disk that both read."""
    model = stored(ref)
    if model is None:
        return ref
    if not context.settings.infers_here:
        raise Conflict(
            "The model lies in Storage, and the inference server is another machine. Fetch it there with"
            " `fineflow models fetch`.",
            code="model_not_servable",
        )
    return str(await context.services.models.artifact(model))


async def _resolve(request: ChatRequest, context: Context) -> _Target:
    known = CATALOG.get(request.model)
    if known is not None and known.answers:
        return _Target(request.model, await _project(request, context), base_model=request.model)
    try:
        model_id = UUID(request.model)
    except ValueError:
        return await _resolve_deployment(request, context)
    return _target(await context.visible("fine_tuned_models", model_id, what="model"))


async def _resolve_deployment(request: ChatRequest, context: Context) -> _Target:
    query = context.user_db.table("deployments").select("*").eq("name", request.model).eq("status", "live")
    if request.project_id:
        query = query.eq("project_id", str(request.project_id))
    rows: list[Row] = (await context.user_db.run(query.limit(2))).data
    if not rows:
        raise NotFound(
            f"No model is deployed as {request.model!r}. Deploy one with manage-models.",
            code="deployment_not_found",
        )
    if len(rows) > 1:
        raise Conflict(
            f"Several of your projects have a deployment {request.model!r}. Name one with project_id.",
            code="deployment_ambiguous",
            details={"projectIds": [row["project_id"] for row in rows]},
        )
    model = await context.service_db.find("fine_tuned_models", id=rows[0]["model_id"])
    if model is None:
        raise NotFound("The deployed model is gone.", code="model_not_found")
    return _target(model, deployment_id=rows[0]["id"])


def _target(model: Row, deployment_id: str | None = None) -> _Target:
    if model["status"] != "ready" or not model["artifact_path"]:
        raise Conflict("The model has no weights that can be served here.", code="model_not_servable")
    return _Target(model["artifact_path"], model["project_id"], model["id"], deployment_id)


async def _project(request: ChatRequest, context: Context) -> str:
    """The project that a base model's call is booked on."""
    if request.project_id:
        await context.require_role(request.project_id, "viewer")
        return str(request.project_id)
    rows: list[Row] = (
        await context.user_db.run(context.user_db.table("projects").select("id").limit(2))
    ).data
    if len(rows) != 1:
        raise InvalidRequest(
            "Name the project that this call belongs to with project_id.", code="project_required"
        )
    return str(rows[0]["id"])


async def _record(
    request: ChatRequest,
    context: Context,
    target: _Target,
    started: float,
    *,
    answer: Answer | None = None,
    error_code: str | None = None,
) -> int:
    latency_ms = round((time.monotonic() - started) * 1000)
    await context.service_db.insert(
        "model_usage",
        {
            "project_id": target.project_id,
            "model_id": target.model_id,
            "deployment_id": target.deployment_id,
            "user_id": str(context.user_id),
            "base_model": target.base_model,
            "node_type": request.node_type,
            "execution_id": request.execution_id,
            "prompt_tokens": answer.prompt_tokens if answer else 0,
            "completion_tokens": answer.completion_tokens if answer else 0,
            "latency_ms": latency_ms,
            "error_code": error_code,
        },
    )
    return latency_ms
