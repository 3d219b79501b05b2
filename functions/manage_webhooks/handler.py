"""manage-webhooks: where a project wants to be told of its jobs. A secret is shown once and never again.

What was told is in the table webhook_deliveries, which members read.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field, model_validator

from functions.context import Context
from functions.messages import Request, Response
from shared.db import Row
from shared.errors import Conflict
from shared.webhooks.deliver import attempt
from shared.webhooks.model import EVENT_TYPES, EventType
from shared.webhooks.send import require_endpoint_url, sender

Action = Literal["create", "list", "update", "rotate", "delete", "test", "redeliver"]
_OF_A_PROJECT = ("create", "list")
_SETTINGS = ("url", "events", "description", "enabled")


class ManageWebhooks(Request):
    action: Action
    project_id: UUID | None = Field(default=None, description="For create and list.")
    webhook_id: UUID | None = Field(default=None, description="For update, rotate, delete and test.")
    delivery_id: UUID | None = Field(default=None, description="For redeliver.")
    url: str | None = Field(default=None, min_length=8, max_length=2000)
    events: list[EventType] | None = Field(default=None, min_length=1, description="Default: all.")
    description: str | None = Field(default=None, max_length=200)
    enabled: bool | None = None

    @model_validator(mode="after")
    def _complete(self) -> ManageWebhooks:
        needed = {"redeliver": "delivery_id"} | dict.fromkeys(_OF_A_PROJECT, "project_id")
        target = needed.get(self.action, "webhook_id")
        if getattr(self, target) is None:
            raise ValueError(f"{self.action} needs a {target}")
        if self.action == "create" and self.url is None:
            raise ValueError("create needs a url")
        if self.action == "update" and not self.given_settings:
            raise ValueError(f"update needs one of {', '.join(_SETTINGS)}")
        if self.action not in ("create", "update") and self.given_settings:
            raise ValueError(f"{self.action} changes no settings")
        if self.action == "create" and self.enabled is not None:
            raise ValueError("only update takes enabled")
        return self

    @property
    def given_settings(self) -> dict[str, Any]:
        """The settings that the request names, as columns."""
        return {name: value for name in _SETTINGS if (value := getattr(self, name)) is not None}


class Webhook(Response):
    id: UUID
    project_id: UUID
    url: str
    description: str
    events: list[EventType]
    enabled: bool
    disabled_reason: str | None = Field(description="null: FineFlow did not disable it.")
    failing_since: datetime | None = Field(description="null: the last attempt was a good one.")


class TestResult(Response):
    delivered: bool
    status_code: int | None = Field(description="null: nobody answered.")
    error: str | None


class Webhooks(Response):
    webhooks: list[Webhook]
    secret: str | None = Field(
        default=None, description="After create and rotate only. Keep it: it is shown once."
    )
    result: TestResult | None = Field(default=None, description="After test only.")


async def handle(request: ManageWebhooks, context: Context) -> Webhooks:
    """The endpoints that were asked for or changed, as they are now."""
    if request.action == "list":
        return await _list(request, context)
    if request.action == "create":
        return await _create(request, context)
    if request.action == "redeliver":
        return await _redeliver(request, context)
    assert request.webhook_id is not None  # checked by the model
    row = await context.visible("webhook_endpoints", request.webhook_id, what="webhook", least="editor")
    return await _ON_ONE[request.action](request, row, context)


async def _list(request: ManageWebhooks, context: Context) -> Webhooks:
    assert request.project_id is not None
    await context.require_role(request.project_id, "viewer")
    query = context.user_db.table("webhook_endpoints").select("*").eq("project_id", str(request.project_id))
    return _answer((await context.user_db.run(query.order("created_at"))).data)


async def _create(request: ManageWebhooks, context: Context) -> Webhooks:
    await context.require_role(str(request.project_id), "editor")
    _require_url(request, context)
    row, secret = await context.services.webhooks.create(
        {"description": "", "events": list(EVENT_TYPES)}
        | request.given_settings
        | {"project_id": str(request.project_id), "created_by": str(context.user_id)}
    )
    return _answer([row], secret=secret.get_secret_value())


async def _update(request: ManageWebhooks, row: Row, context: Context) -> Webhooks:
    _require_url(request, context)
    columns = request.given_settings
    if request.enabled:
        columns |= {"disabled_reason": None, "failing_since": None}
    return _answer([await context.services.webhooks.update(row["id"], columns)])


async def _rotate(request: ManageWebhooks, row: Row, context: Context) -> Webhooks:
    secret = await context.services.webhooks.rotate(UUID(row["id"]))
    return _answer([row], secret=secret.get_secret_value())


async def _delete(request: ManageWebhooks, row: Row, context: Context) -> Webhooks:
    await context.services.webhooks.delete(row["id"])
    return _answer([])


async def _test(request: ManageWebhooks, row: Row, context: Context) -> Webhooks:
    """A ping, sent once and now; also to a disabled endpoint."""
    store = context.services.webhooks
    async with sender(allow_private=context.settings.reaches_private_addresses) as to:
        answer = await attempt(store, to, await store.begin_test(UUID(row["id"])))
    result = TestResult(delivered=answer.error is None, status_code=answer.status_code, error=answer.error)
    return _answer([row], result=result)


async def _redeliver(request: ManageWebhooks, context: Context) -> Webhooks:
    assert request.delivery_id is not None
    delivery = await context.visible(
        "webhook_deliveries", request.delivery_id, what="webhook_delivery", least="editor"
    )
    outcome = await context.services.webhooks.redeliver(request.delivery_id)
    if outcome == "endpoint_disabled":
        raise Conflict("The endpoint is disabled. Enable it first.", code="webhook_disabled")
    if outcome == "not_dead":
        raise Conflict("Only a dead delivery can be sent again.", code="webhook_delivery_not_dead")
    row = await context.user_db.find("webhook_endpoints", id=delivery["endpoint_id"])
    return _answer([row] if row else [])


_ON_ONE = {"update": _update, "rotate": _rotate, "delete": _delete, "test": _test}


def _require_url(request: ManageWebhooks, context: Context) -> None:
    if request.url is not None:
        require_endpoint_url(request.url, allow_private=context.settings.reaches_private_addresses)


def _answer(rows: list[Row], *, secret: str | None = None, result: TestResult | None = None) -> Webhooks:
    return Webhooks(
        webhooks=[Webhook.model_validate(row, extra="ignore") for row in rows], secret=secret, result=result
    )
