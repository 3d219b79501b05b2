"""What every request and response has in common: camelCase outside, snake_case inside, nothing unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

Query = TypeVar("Query", bound=BaseModel)


class Request(BaseModel):
    """Fields are accepted in camelCase and in snake_case; an unknown one is refused by name."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
        str_strip_whitespace=True,
    )


class Response(BaseModel):
    """Fields leave in camelCase."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, protected_namespaces=()
    )


@dataclass(frozen=True)
class Signed(Generic[Query]):
    """A message whose bytes are signed: nobody has parsed it, and nobody has checked it yet."""

    query: Query  # what stands in the address
    body: bytes
    headers: Mapping[str, str]  # names in lower case


class Error(BaseModel):
    code: str  # for programs
    message: str  # for people: what happened and what to do
    details: Any = None


class ErrorBody(BaseModel):
    """The body of every answer that is not a success; `shared.errors` writes it."""

    error: Error
