"""How files and lists of rows are to be read into a dataset; kept beside it until all is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from shared.datasets.model import Kind

Scalar = StrictBool | StrictInt | StrictFloat | Annotated[StrictStr, Field(max_length=1000)]
Bound = StrictInt | StrictFloat | Annotated[StrictStr, Field(max_length=1000)]


class Range(BaseModel):
    """Bounds that a value has to keep, both included, and values of which it has to be one."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    gte: Bound | None = None
    lte: Bound | None = None
    among: list[Scalar] | None = Field(default=None, alias="in", min_length=1, max_length=1000)

    def holds(self, value: Any) -> bool:
        """Whether a value is within; none at all never is."""
        if value is None:
            return False
        if self.among is not None and not any(_is_same(value, one) for one in self.among):
            return False
        return (self.gte is None or _is_ordered(self.gte, value)) and (
            self.lte is None or _is_ordered(value, self.lte)
        )


Condition = Range | Annotated[list[Scalar], Field(min_length=1, max_length=1000)] | Scalar
Filter = Annotated[dict[str, Condition], Field(max_length=20)]


class LogChoice(BaseModel):
    """Which rows of a log become pairs, and of which kind. All conditions have to hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind | None = None  # None: what each row says, see `logs`
    gold_star_only: bool = False
    min_rating: int | None = Field(default=None, ge=1, le=5)
    filter: Filter = {}


class ImportOptions(BaseModel):
    """Everything but the rows themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mapping: dict[str, str] = {}  # names that the formats know, to the columns of the files
    skip_bad_rows: bool = False
    system_prompt: str | None = None  # put before rows that have no system message of their own
    log: LogChoice | None = None  # None: rows are training rows, not a log


def matches(conditions: Mapping[str, Condition], values: Mapping[str, Any]) -> bool:
    """Whether a row's own columns keep every condition; those within `metadata` come first."""
    inner = values.get("metadata")
    found = {**values, **inner} if isinstance(inner, dict) else values
    return all(_keeps(condition, found.get(name)) for name, condition in conditions.items())


def _keeps(condition: Condition, value: Any) -> bool:
    if isinstance(condition, Range):
        return condition.holds(value)
    if isinstance(condition, list):
        return any(_is_same(value, one) for one in condition)
    return _is_same(value, condition)


def _is_same(value: Any, wanted: Scalar) -> bool:
    """Tables and command lines know text alone, so that 5 and "5", true and "true" are the same."""
    return value is not None and (value == wanted or _text(value) == _text(wanted))


def _is_ordered(low: Any, high: Any) -> bool:
    """Numbers by size, all else as text, which dates as ISO 8601 writes them are ordered by too."""
    low_number, high_number = _number(low), _number(high)
    if low_number is not None and high_number is not None:
        return low_number <= high_number
    return isinstance(low, str) and isinstance(high, str) and low <= high


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
