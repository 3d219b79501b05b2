"""Reads an answer that breaks the published schema, as far as it can be read.

OpenAI adds words to its enums, and services that resemble it leave fields out. Neither may stop a job:
what does not fit its type is None, whatever the type says, and the rest is there.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

if TYPE_CHECKING:
    from openai.pagination import AsyncCursorPage
    from pydantic import BaseModel

Shape = TypeVar("Shape", bound="BaseModel")


def read_object(shape: type[Shape], body: object, needs: tuple[str, ...]) -> Shape | None:
    """The object; None unless it has each field that it `needs`, as a text."""
    if not isinstance(body, dict) or not all(isinstance(body.get(name), str) for name in needs):
        return None
    values = {name: _value(adapter, body.get(name)) for name, adapter in _adapters(shape).items()}
    return shape.model_construct(**values | {name: body[name] for name in needs})


def read_page(item: type[Shape], body: object) -> AsyncCursorPage[Shape] | None:
    """The page with those of its items that have an id; None when there is no list."""
    from openai.pagination import AsyncCursorPage

    if not isinstance(body, dict) or not isinstance(body.get("data"), list):
        return None
    found = [read_object(item, each, ("id",)) for each in body["data"]]
    return AsyncCursorPage.construct(
        data=[each for each in found if each is not None], has_more=body.get("has_more") is True
    )


def _value(adapter: TypeAdapter[Any], value: object) -> Any:
    try:
        return adapter.validate_python(value)
    except ValidationError:
        return None


@lru_cache(maxsize=16)
def _adapters(shape: type[BaseModel]) -> dict[str, TypeAdapter[Any]]:
    return {
        name: TypeAdapter(field.annotation)
        for name, field in shape.model_fields.items()
        if field.annotation is not None
    }
