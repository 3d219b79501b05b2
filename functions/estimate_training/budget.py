"""The budget of a project, as clients see it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from functions.messages import Response
from shared.db import Database, Row


class BudgetStanding(Response):
    """The present month, in USD; `docs/money.md` says how each number is made."""

    month_usd: float | None = Field(description="The budget; null: none is set.")
    enforcement: Literal["off", "warn", "block"]
    spent_usd: float
    reserved_usd: float = Field(description="Held back for jobs that have not ended.")
    remaining_usd: float | None
    projected_month_usd: float = Field(description="At the end of the month, with this job.")
    would_exceed: bool | None = Field(description="null: the cost of this job is not known.")


def standing_with(standing: Row, held_usd: float | None) -> BudgetStanding:
    """What budget_standing answers, beside a job that holds back so much; None: that is not known."""
    remaining = standing["remaining_usd"]
    held = held_usd or 0.0
    return BudgetStanding(
        month_usd=standing["budget_usd"],
        enforcement=standing["enforcement"],
        spent_usd=standing["spent_usd"],
        reserved_usd=standing["reserved_usd"],
        remaining_usd=remaining,
        projected_month_usd=round(standing["projected_month_usd"] + held, 6),
        would_exceed=None
        if held_usd is None and remaining is not None
        else remaining is not None and held > 0 and held > remaining,
    )


async def budget_of(database: Database, project_id: str, held_usd: float | None) -> BudgetStanding:
    """How the project stands, beside a job that holds back so much. For members of the project."""
    return standing_with(await database.call("budget_standing", project_id=project_id), held_usd)
