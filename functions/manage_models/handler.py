"""manage-models: a model goes live behind a stable name, in one transaction with its history."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from functions.context import Context
from functions.messages import Request, Response
from shared.errors import Conflict


class ManageModels(Request):
    action: Literal["deploy"]
    model_id: UUID
    deployment_name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    notes: str | None = Field(default=None, max_length=2000)
    config: dict[str, Any] = Field(default_factory=dict, max_length=50)


class Deployed(Response):
    deployment_id: UUID
    deployment_name: str
    model_id: UUID
    previous_model_id: UUID | None  # None: the name is new


async def handle(request: ManageModels, context: Context) -> Deployed:
    """The name answers with this model from the next call on."""
    model = await context.visible("fine_tuned_models", request.model_id, what="model", least="editor")
    answer = await context.service_db.call(
        "deploy_model",
        model_id=model["id"],
        name=request.deployment_name,
        user_id=str(context.user_id),
        notes=request.notes,
        config=request.config,
    )
    if answer["outcome"] != "deployed":
        raise Conflict(
            f"The model is {model['status']}; only a ready one can be deployed.", code="model_not_ready"
        )
    return Deployed(
        deployment_id=answer["deployment"]["id"],
        deployment_name=request.deployment_name,
        model_id=request.model_id,
        previous_model_id=answer["previous_model_id"],
    )
