"""split-dataset: the usable pairs in train, validation and test, with nothing of one known from another.

A pair that was split keeps its place, so the call may be repeated after pairs were added. With `check` it
changes nothing and tells what the parts give away, as they lie or as they came with a file.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from functions.context import Context
from functions.messages import Response
from functions.split_dataset.plan import Plan, SplitOptions, plan_for
from shared.datasets.leaks import LeakKind
from shared.datasets.model import Pair, SplitName
from shared.datasets.pair_split import Grouping, PairSplit, pair_leaks, split_pairs
from shared.datasets.split import SPLITS
from shared.datasets.split_remarks import remarks
from shared.datasets.store import read_pairs
from shared.db import Row
from shared.errors import Conflict, InvalidRequest, NotFound

LISTED_LEAKS = 100  # of each kind
_TRIES = 3


class SplitDataset(SplitOptions):
    dataset_id: UUID


class Remark(Response):
    rule: str
    message: str
    hint: str


class FoundLeak(Response):
    kind: LeakKind = Field(description="exact: the same words; near: nearly; source: of one document.")
    first_pair_id: UUID
    first_split: SplitName
    second_pair_id: UUID
    second_split: SplitName
    similarity: float = Field(description="Jaccard of their three-word shingles, 0-1.")


class SplitResult(Response):
    dataset_id: UUID
    counts: dict[SplitName, int] = Field(description="Usable pairs of each part.")
    fractions: dict[SplitName, float] = Field(description="As reached.")
    group_counts: dict[SplitName, int] | None = Field(description="What is never divided; null with check.")
    seed: int | None = Field(description="null: not split here.")
    content_hash: str | None = Field(description="Of the pairs and their places; null: not split here.")
    made_at: str | None
    changed_pairs: int = Field(description="Pairs that this call put somewhere else.")
    warnings: list[Remark]
    leaks: list[FoundLeak] | None = Field(description="At most 100 of each kind; null without check.")
    leak_counts: dict[LeakKind, int] | None


async def handle(request: SplitDataset, context: Context) -> SplitResult:
    """Every usable pair has its part and its group, all at once; or, with check, nothing has changed."""
    least: Literal["viewer", "editor"] = "viewer" if request.check else "editor"
    for _ in range(_TRIES):
        dataset = await context.visible("training_datasets", request.dataset_id, what="dataset", least=least)
        pairs = [pair for pair in await read_pairs(context.service_db, request.dataset_id) if pair.is_usable]
        if not pairs:
            raise InvalidRequest("The dataset has no valid pair to split.", code="dataset_empty")
        plan = await plan_for(request, dataset, pairs, context)
        if request.check:
            return await asyncio.to_thread(_checked, request.dataset_id, dataset, pairs, plan.grouping)
        found = await asyncio.to_thread(
            split_pairs, pairs, plan.grouping, plan.fractions, plan.seed, restart=request.restart
        )
        saved = await _save(dataset, found, plan, context)
        if saved is not None:
            return _result(request.dataset_id, found, plan, saved)
    raise Conflict("The dataset is being split by somebody else. Try again.", code="dataset_changed")


async def _save(dataset: Row, found: PairSplit, plan: Plan, context: Context) -> Row | None:
    """What was saved; None when somebody else has split the dataset meanwhile."""
    answer: Row = await context.service_db.call(
        "save_dataset_split",
        dataset_id=dataset["id"],
        before=dataset["split"],
        split=plan.as_row() | _facts(found),
        groups=[{"split": name, "pair_ids": list(map(str, ids))} for name, ids in found.groups()],
    )
    if answer["outcome"] == "dataset_not_found":
        raise NotFound("The dataset was deleted meanwhile.", code="dataset_not_found")
    if answer["outcome"] == "dataset_not_ready":
        raise Conflict(
            f"The dataset is {answer['status']}. A dataset is split when it is ready.",
            code="dataset_not_ready",
            details={"status": answer["status"]},
        )
    return answer if answer["outcome"] == "saved" else None


def _facts(found: PairSplit) -> dict[str, Any]:
    return {
        "counts": found.split.counts,
        "group_counts": found.split.group_counts,
        "content_hash": found.content_hash,
    }


def _result(dataset_id: UUID, found: PairSplit, plan: Plan, saved: Row) -> SplitResult:
    said = remarks(found, plan.grouping, plan.fractions)
    return SplitResult(
        dataset_id=dataset_id,
        counts=found.split.counts,
        fractions=_reached(found.split.counts),
        group_counts=found.split.group_counts,
        seed=plan.seed,
        content_hash=saved["split"]["content_hash"],
        made_at=saved["split"]["made_at"],
        changed_pairs=saved["changed"],
        warnings=[Remark(rule=each.rule, message=each.message, hint=each.hint or "") for each in said],
        leaks=None,
        leak_counts=None,
    )


def _checked(dataset_id: UUID, dataset: Row, pairs: list[Pair], grouping: Grouping) -> SplitResult:
    in_part = Counter(pair.split or "train" for pair in pairs)
    counts: dict[SplitName, int] = {name: in_part[name] for name in SPLITS}
    leak_counts: dict[LeakKind, int] = {"exact": 0, "near": 0, "source": 0}
    leaks = []
    for leak, first, second in pair_leaks(pairs, grouping):
        leak_counts[leak.kind] += 1
        if leak_counts[leak.kind] <= LISTED_LEAKS:
            leaks.append(
                FoundLeak(
                    kind=leak.kind,
                    first_pair_id=first.id,
                    first_split=first.split or "train",
                    second_pair_id=second.id,
                    second_split=second.split or "train",
                    similarity=leak.similarity,
                )
            )
    split = dataset["split"] or {}
    return SplitResult(
        dataset_id=dataset_id,
        counts=counts,
        fractions=_reached(counts),
        group_counts=None,
        seed=split.get("seed"),
        content_hash=dataset["content_hash"],
        made_at=split.get("made_at"),
        changed_pairs=0,
        warnings=[],
        leaks=leaks,
        leak_counts=leak_counts,
    )


def _reached(counts: dict[SplitName, int]) -> dict[SplitName, float]:
    total = sum(counts.values())
    return {name: round(count / total, 4) for name, count in counts.items()}
