"""A template as a request names it, and what the request then asks for."""

from __future__ import annotations

import re
from typing import TypeVar

from pydantic import ValidationError

from functions.context import Context
from functions.estimate_training.plan import TrainingOptions
from shared.db import Row
from shared.errors import InvalidRequest, NotFound
from shared.training.config import TrainingConfig

Options = TypeVar("Options", bound=TrainingOptions)
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


async def with_template(options: Options, project_id: str, context: Context) -> Options:
    """The same request with what its template sets; what the request itself says goes before that.

    Raises NotFound for a template that the caller does not see, and InvalidRequest for one whose settings are
    not, or no longer, those that a training can have.
    """
    if options.template is None:
        return options
    template = await _find(options.template, project_id, context)
    said = options.training_config.model_dump(exclude_unset=True)
    try:
        config = TrainingConfig.model_validate(_snake(template["training_config"]) | said)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise InvalidRequest(
            f"The template {template['name']} cannot be used: {field}: {first['msg']}. Save it anew.",
            code="template_invalid",
            details={"templateId": template["id"], "field": field},
        ) from None
    taken = {name: template[name] for name in ("method", "base_model") if template[name] is not None}
    chosen = {name: value for name, value in taken.items() if name not in options.model_fields_set}
    return options.model_copy(update=chosen | {"training_config": config})


async def _find(wanted: str, project_id: str, context: Context) -> Row:
    """By id, or by name: the project's own before a built-in one."""
    query = context.user_db.table("training_templates").select("*")
    query = query.eq("id", wanted) if _ID.fullmatch(wanted) else query.eq("name", wanted)
    of_these = f"project_id.is.null,project_id.eq.{project_id}"
    rows: list[Row] = (await context.user_db.run(query.or_(of_these).limit(2))).data
    if not rows:
        raise NotFound(
            f"There is no template {wanted!r} that this project may use.", code="template_not_found"
        )
    return max(rows, key=lambda row: row["project_id"] is not None)


def _snake(config: Row) -> Row:
    """The settings by the names of their fields, whichever of the two ways they were written."""
    names = {field.alias: name for name, field in TrainingConfig.model_fields.items()}
    return {names.get(name, name): value for name, value in config.items()}
