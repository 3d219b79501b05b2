"""`fineflow datasets create`, `estimate`, `stop` and `continue`: pairs from documents, and what they cost."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from cli.backend.client import Client, Row, open_client
from cli.backend.lookup import Project, find, project_id
from cli.command import command
from cli.commands.datasets import DatasetName, find_dataset, generated, start_generation
from cli.exits import ExitCode
from cli.screen.datasets import dataset_facts, generation_estimate_view
from cli.screen.output import Result, notes

app = typer.Typer()

Format = Literal["openai", "anthropic", "alpaca", "sharegpt", "chatml"]
Mode = Literal["auto", "qa", "instruction", "conversation"]
Generator = Literal["extractive", "gemini", "anthropic", "openai_compatible"]
Documents = Annotated[
    list[str] | None, typer.Option("--doc", help="Name or id; again for more. Default: all.")
]
ModeOption = Annotated[Mode, typer.Option(help="What kind of pairs.")]
SystemPrompt = Annotated[str | None, typer.Option(help="Put before every pair.")]
GeneratorOption = Annotated[Generator, typer.Option(help="extractive needs no key.")]
ModelOption = Annotated[str | None, typer.Option(help="Model of the generator.")]
PairsPerChunk = Annotated[int, typer.Option(min=1, max=10)]
MaxPairs = Annotated[int | None, typer.Option(min=10, max=10_000)]
MaxCost = Annotated[
    float | None, typer.Option("--max-cost-usd", help="Begin no chunk that could pass it. Default: no cap.")
]
Batch = Annotated[bool, typer.Option("--batch", help="Half the price, answered within a day.")]
Audiences = Annotated[
    list[str] | None,
    typer.Option("--audience", help="Whom to write for; again for more. Default: a mixture."),
]
Styles = Annotated[list[str] | None, typer.Option("--style", help="How to answer; again for more.")]
Reasoning = Annotated[
    bool, typer.Option("--reasoning", help="Answers think aloud first: <think>...</think>.")
]
Judge = Annotated[bool, typer.Option("--judge", help="The model also says which answers are not supported.")]
IncludeFlagged = Annotated[
    bool, typer.Option("--include-flagged", help="Also of flagged chunks, without the passages that are.")
]
MinQuality = Annotated[float | None, typer.Option("--min-chunk-quality", min=0, max=1)]
Wait = Annotated[bool, typer.Option(help="Wait until the pairs are made.")]


@command(app, "create")
async def create(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    documents: Documents = None,
    export_format: Annotated[Format, typer.Option("--format", help="For exports.")] = "openai",
    mode: ModeOption = "auto",
    system_prompt: SystemPrompt = None,
    generator: GeneratorOption = "extractive",
    model: ModelOption = None,
    pairs_per_chunk: PairsPerChunk = 3,
    max_pairs: MaxPairs = None,
    max_cost_usd: MaxCost = None,
    audiences: Audiences = None,
    styles: Styles = None,
    reasoning: Reasoning = False,
    judge: Judge = False,
    include_flagged: IncludeFlagged = False,
    min_chunk_quality: MinQuality = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Pay again for what another dataset asked.")] = False,
    batch: Batch = False,
    wait: Wait = True,
    project: Project = None,
) -> Result:
    """Make pairs from the documents of a project."""
    async with open_client() as client:
        target = await project_id(client, project)
        request = {
            "projectId": target,
            "datasetName": name,
            "format": export_format,
            "mode": mode,
            "systemPrompt": system_prompt,
            "documentIds": await _document_ids(client, target, documents),
            "generator": generator,
            "model": model,
            "pairsPerChunk": pairs_per_chunk,
            "maxPairs": max_pairs,
            "maxCostUsd": max_cost_usd,
            "audiences": audiences,
            "styles": styles,
            "reasoning": reasoning or None,
            "judge": judge or None,
            "includeFlagged": include_flagged or None,
            "minChunkQuality": min_chunk_quality,
            "fresh": fresh or None,
            "batch": batch or None,
        }
        return await _followed(client, await start_generation(client, request), wait)


@command(app, "estimate")
async def estimate(
    documents: Documents = None,
    mode: ModeOption = "auto",
    system_prompt: SystemPrompt = None,
    generator: GeneratorOption = "gemini",
    model: ModelOption = None,
    pairs_per_chunk: PairsPerChunk = 3,
    max_pairs: MaxPairs = None,
    batch: Batch = False,
    reasoning: Reasoning = False,
    judge: Judge = False,
    include_flagged: IncludeFlagged = False,
    min_chunk_quality: MinQuality = None,
    project: Project = None,
) -> Result:
    """What `datasets create` would take and cost. Makes nothing."""
    async with open_client() as client:
        target = await project_id(client, project)
        request = {
            "action": "estimate",
            "projectId": target,
            "mode": mode,
            "systemPrompt": system_prompt,
            "documentIds": await _document_ids(client, target, documents),
            "generator": generator,
            "model": model,
            "pairsPerChunk": pairs_per_chunk,
            "maxPairs": max_pairs,
            "batch": batch or None,
            "reasoning": reasoning or None,
            "judge": judge or None,
            "includeFlagged": include_flagged or None,
            "minChunkQuality": min_chunk_quality,
        }
        given = {field: value for field, value in request.items() if value is not None}
        answer = await client.invoke("generate-dataset", given)
    return Result(answer, generation_estimate_view(answer))


@command(app, "stop")
async def stop(dataset: DatasetName, project: Project = None) -> Result:
    """Begin no chunk any more; what is made stays."""
    return await _told("stop", dataset, project, wait=True)


@command(app, "continue")
async def continue_dataset(
    dataset: DatasetName,
    max_cost_usd: MaxCost = None,
    no_batch: Annotated[
        bool, typer.Option("--no-batch", help="In no batch any more: at once, at the full price.")
    ] = False,
    wait: Wait = True,
    project: Project = None,
) -> Result:
    """Work on the chunks that failed or were not begun; the cap is that on all of it."""
    batch = False if no_batch else None
    return await _told("continue", dataset, project, wait=wait, maxCostUsd=max_cost_usd, batch=batch)


async def _told(action: str, reference: str, project: str | None, *, wait: bool, **options: Any) -> Result:
    given = {name: value for name, value in options.items() if value is not None}
    async with open_client() as client:
        row = await find_dataset(client, reference, project)
        await client.invoke("generate-dataset", {"action": action, "datasetId": row["id"], **given})
        return await _followed(client, str(row["id"]), wait)


async def _followed(client: Client, dataset_id: str, wait: bool) -> Result:
    dataset = await (generated(client, dataset_id, notes()) if wait else _row(client, dataset_id))
    failed = dataset["status"] == "failed"
    return Result(dataset, dataset_facts(dataset), ExitCode.FAILED if failed else ExitCode.OK)


async def _row(client: Client, dataset_id: str) -> Row:
    return (await client.rows(client.supabase.table("training_datasets").select("*").eq("id", dataset_id)))[0]


async def _document_ids(client: Client, project: str, wanted: list[str] | None) -> list[str] | None:
    if not wanted:
        return None
    found = [await find(client, "documents", project, reference, thing="document") for reference in wanted]
    return [str(document["id"]) for document in found]
