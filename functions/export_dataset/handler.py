"""export-dataset: chosen pairs as one file that a trainer elsewhere reads, behind a signed address."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal
from uuid import UUID

from pydantic import Field

from functions.context import Context
from functions.messages import Request, Response
from shared.datasets.card import card
from shared.datasets.containers import CONTENT_TYPES, Container
from shared.datasets.export import Choice, Exported, Include, write_export
from shared.datasets.model import Kind, SplitName
from shared.datasets.store import pair_pages

_URL_SECONDS = 3600
ExportFormat = Literal[
    "openai", "anthropic", "alpaca", "sharegpt", "chatml", "prompt_completion", "question_answer",
    "dpo", "openai_preference", "sharegpt_preference", "kto",
]  # fmt: skip
# Where no format is asked for; of other pairs it is the dataset's own.
_FORMATS: dict[Kind | None, ExportFormat] = {"preference": "openai_preference", "kto": "kto"}


class ExportDataset(Request):
    dataset_id: UUID
    format: ExportFormat | None = Field(
        default=None,
        description="null: the dataset's own; for kind 'preference' openai_preference, for 'kto' kto.",
    )
    container: Container = "jsonl"
    include: Include = Field(
        default="usable", description="usable: valid and not rejected; approved: of those the approved ones."
    )
    split: SplitName | None = Field(default=None, description="A pair that was not split is one of train.")
    kind: Kind | None = None
    with_provenance: bool = Field(
        default=False, description="Beside each row where it comes from, and the pair's own columns."
    )
    skip_unheld: bool = Field(
        default=False, description="What the format cannot hold is left out and counted, not refused."
    )
    without_reasoning: bool = Field(
        default=False, description="Without <think>...</think> at the beginning of answers."
    )


class LeftOut(Response):
    pair_id: UUID
    ordinal: int = Field(description="The place of the pair in the dataset, from 1.")
    reason: str


class DatasetExported(Response):
    dataset_id: UUID
    format: ExportFormat
    container: Container
    path: str = Field(description="In the bucket `exports`; equal exports have the same.")
    signed_url: str
    card_path: str = Field(description="A README.md that tells what is in the file.")
    card_url: str
    expires_in_seconds: int
    pair_count: int
    byte_size: int
    sha256: str
    skipped_count: int
    skipped: list[LeftOut] = Field(description="The first twenty.")
    bare_count: int = Field(description="Pairs with columns of their own, which withProvenance would keep.")


async def handle(request: ExportDataset, context: Context) -> DatasetExported:
    """The file is in the bucket `exports`; its name holds its hash, so equal exports are one file."""
    dataset = await context.visible("training_datasets", request.dataset_id, what="dataset")
    choice = Choice(
        format=request.format or _FORMATS.get(request.kind) or dataset["format"],
        container=request.container,
        include=request.include,
        split=request.split,
        kind=request.kind,
        with_provenance=request.with_provenance,
        skip_unheld=request.skip_unheld,
        without_reasoning=request.without_reasoning,
    )
    with tempfile.TemporaryDirectory(prefix="fineflow-export-") as directory:
        file = Path(directory) / "rows"
        pages = pair_pages(context.service_db, request.dataset_id)
        exported = await write_export(pages, choice, file)
        name = f"{choice.format}-{exported.sha256[:16]}"
        path = f"{dataset['project_id']}/{dataset['id']}/{name}.{choice.container}"
        card_path = f"{dataset['project_id']}/{dataset['id']}/{name}.README.md"
        text = card(dataset, choice, exported, path.rpartition("/")[2])
        await context.storage.upload("exports", path, file, CONTENT_TYPES[choice.container])
        await context.storage.upload("exports", card_path, text.encode(), "text/markdown")
    return await _answer(request, context, choice, exported, path, card_path)


async def _answer(
    request: ExportDataset, context: Context, choice: Choice, exported: Exported, path: str, card_path: str
) -> DatasetExported:
    sign = context.storage.signed_url
    return DatasetExported(
        dataset_id=request.dataset_id,
        format=choice.format,
        container=choice.container,
        path=path,
        signed_url=await sign("exports", path, expires_in_seconds=_URL_SECONDS),
        card_path=card_path,
        card_url=await sign("exports", card_path, expires_in_seconds=_URL_SECONDS),
        expires_in_seconds=_URL_SECONDS,
        pair_count=exported.pair_count,
        byte_size=exported.byte_size,
        sha256=exported.sha256,
        skipped_count=exported.skipped_count,
        skipped=[LeftOut(**vars(one)) for one in exported.skipped],
        bare_count=exported.bare_count,
    )
