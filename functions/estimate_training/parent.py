"""A model of the project, where a request names one as its base model."""

from __future__ import annotations

from functions.context import Context
from shared.db import Row
from shared.errors import InvalidRequest
from shared.jobs.parent import require_usable
from shared.training.config import Method
from shared.training.spec import parent_id


async def named_model(base_model: str, project_id: str, context: Context) -> Row | None:
    """The model that is meant, which the caller sees; None: the base model is somebody else's.

    Raises NotFound where the caller sees none, and InvalidRequest for one of another project.
    """
    model_id = parent_id(base_model)
    if model_id is None:
        return None
    model = await context.visible("fine_tuned_models", model_id, what="model")
    if model["project_id"] != project_id:
        raise InvalidRequest(
            f"{model['name']}:{model['version']} belongs to another project than the dataset."
            " Import the rows there, and train there.",
            code="base_model_misplaced",
        )
    return model


async def usable_model(base_model: str, method: Method, project_id: str, context: Context) -> Row | None:
    """As `named_model`, and this method can train it. Raises Conflict for one that is deleted as well."""
    model = await named_model(base_model, project_id, context)
    if model is not None:
        require_usable(model, method)
    return model
