"""deliver-webhooks: sends what is due. A new event calls it at once; the schedule brings what was put off."""

from __future__ import annotations

from functions.context import Context
from functions.messages import Request, Response
from shared.webhooks.deliver import deliver_due


class DeliverWebhooks(Request): ...


class Delivered(Response):
    attempts: int


async def handle(request: DeliverWebhooks, context: Context) -> Delivered:
    """Everything that is due was tried once, and what is old is forgotten."""
    attempts = await deliver_due(
        context.services.webhooks, allow_private_addresses=context.settings.reaches_private_addresses
    )
    await context.service_db.call("forget_old_webhooks")
    return Delivered(attempts=attempts)
