"""The chapters of the demo, in the order in which they are told. Each acts through the public addresses."""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import SecretStr

from cli.backend.client import Client, Row
from cli.backend.connection import Login
from cli.backend.live import Update, follow
from cli.backend.lookup import create_project
from cli.commands.datasets import generated, start_generation, valid_pairs
from cli.commands.documents import add_documents, failure_of
from cli.commands.jobs import ENDED, follow_job
from cli.commands.models import deploy_model
from cli.commands.training import TINY, training_options
from cli.demo.answers import DEPLOYMENT
from cli.demo.facts import Telling, median_ms
from cli.exits import CliError
from cli.screen.output import dollars

FEWEST_PAIRS_A_CHUNK, MOST_PAIRS_A_CHUNK = 2, 10
MAX_PAIRS = 56
MIN_PAIRS = 10
EPOCHS = 50
CANCEL_SECONDS = 8.0  # a trainer that loads its libraries notices only afterwards


async def sign_up(telling: Telling) -> None:
    """A user who did not exist a moment ago owns a project."""
    email = f"demo-{secrets.token_hex(4)}@fineflow.local"
    with telling.story.chapter("A new user and a project"):
        await telling.client.sign_up(Login(email, SecretStr(secrets.token_urlsafe(24))))
        telling.project = await create_project(telling.client, "Demo")
        telling.story.say(f"{email} signed up and owns the project Demo.")


async def read_documents(telling: Telling, paths: Sequence[Path]) -> None:
    """The documents are uploaded and cut into chunks. Raises CliError when one cannot be read."""
    with telling.story.chapter("The documents"):
        documents = await add_documents(telling.client, telling.project, paths)
        for document in documents:
            if document["status"] == "failed":
                raise CliError(f"{document['name']} cannot be used: {failure_of(document)}")
        words = [len(path.read_text(encoding="utf-8", errors="replace").split()) for path in paths]
        telling.facts.document_words = sum(words)
        telling.facts.chunks = sum(int(document["chunk_count"]) for document in documents)
        for document, count in zip(documents, words, strict=True):
            telling.story.say(f"{document['name']}: {count:,} words in {document['chunk_count']} chunks")


async def make_pairs(telling: Telling) -> str:
    """The id of a dataset of questions and answers. Raises CliError when it is too small to train on."""
    with telling.story.chapter("Questions and answers from the text"):
        request = {
            "projectId": telling.project,
            "datasetName": telling.dataset_name,
            "mode": "qa",
            "pairsPerChunk": pairs_per_chunk(telling.facts.chunks),
            "maxPairs": MAX_PAIRS,
        }
        dataset_id = await start_generation(telling.client, request)
        dataset = await generated(telling.client, dataset_id, telling.story.console)
        if dataset["status"] == "failed":
            raise CliError(f"No dataset was made: {failure_of(dataset)}")
        pairs = await valid_pairs(telling.client, dataset_id)
        telling.facts.pairs = len(pairs)
        if len(pairs) < MIN_PAIRS:
            raise CliError(
                f"The documents give too few pairs: {len(pairs)}; training needs {MIN_PAIRS} or more.",
                hint="Use a longer document, with plain sentences that state facts.",
                code="too_few_pairs",
            )
        telling.story.say(f"{len(pairs)} pairs, made without any key. One of them:")
        example = pairs[len(pairs) // 2]
        telling.story.pair(example["user_message"], example["assistant_message"])
    return dataset_id


async def check_and_estimate(telling: Telling, dataset_id: str) -> None:
    """The dataset is checked, and what training costs is known before it starts."""
    with telling.story.chapter("Checked, and the bill beforehand"):
        report, estimate = await asyncio.gather(
            telling.client.invoke("validate-dataset", {"datasetId": dataset_id}),
            telling.client.invoke("estimate-training", _options(dataset_id)),
        )
        telling.facts.valid = bool(report["valid"])
        telling.facts.estimated_cost_usd = float(estimate["costUsd"])
        if not report["valid"]:
            raise CliError("The dataset is not valid.", details=report["errors"])
        stats, duration = report["stats"], estimate["durationSeconds"]
        telling.story.say(
            f"Valid: {stats['totalPairs']} pairs, {stats['uniqueQuestions']} different questions, "
            f"{len(report['warnings'])} warnings."
        )
        telling.story.say(
            f"Training on this machine: {dollars(estimate['costUsd'])}, "
            f"{estimate['billableTokens']:,} tokens, about {duration['low']:.0f} to {duration['high']:.0f} s."
        )


async def train(telling: Telling, dataset_id: str) -> Row:
    """The finished job, followed live. Raises CliError when it did not complete."""
    latencies_ms: list[float] = []

    def measure(update: Update) -> None:
        if update.latency_ms is not None:
            latencies_ms.append(update.latency_ms)

    with telling.story.chapter("Training, followed live"):
        started = await telling.client.invoke("start-training", _options(dataset_id))
        job = await _followed_or_cancelled(telling, str(started["jobId"]), measure)
        if job["status"] != "completed":
            raise CliError(f"Training {job['status']}: {failure_of(job)}")
        facts = telling.facts
        facts.job_id, facts.final_loss = job["id"], job["training_loss"]
        facts.realtime_updates, facts.realtime_p50_ms = len(latencies_ms), median_ms(latencies_ms)
        telling.story.say(
            f"{job['step']} steps, loss {float(job['training_loss']):.4f}. "
            f"Realtime brought {facts.realtime_updates} updates, half of them within "
            f"{facts.realtime_p50_ms} ms of the database's commit."
        )
    return job


async def deploy(telling: Telling, job: Row) -> None:
    """The model that the job registered answers behind a name."""
    with telling.story.chapter("Registered and deployed"):
        query = telling.client.supabase.table("fine_tuned_models").select("*").eq("job_id", job["id"])
        model = (await telling.client.rows(query))[0]
        await deploy_model(telling.client, model["id"], DEPLOYMENT, "first version")
        telling.facts.model_version = int(model["version"])
        telling.story.say(
            f"{model['name']}:{model['version']} is in the registry and answers as {DEPLOYMENT!r}."
        )


def pairs_per_chunk(chunks: int) -> int:
    """As many as fill the dataset: few from each chunk of a long document, all from those of a short one."""
    return max(FEWEST_PAIRS_A_CHUNK, min(MOST_PAIRS_A_CHUNK, math.ceil(MAX_PAIRS / max(chunks, 1))))


def _options(dataset_id: str) -> Row:
    return training_options(dataset_id, "local", TINY, "full", {"epochs": EPOCHS})


async def _followed_or_cancelled(telling: Telling, job_id: str, on_update: Callable[[Update], None]) -> Row:
    """The ended job; when the story is interrupted, the job is asked to end too, and given time for it."""
    try:
        return await follow_job(telling.client, job_id, telling.story.console, on_update)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(_cancel(telling.client, job_id), CANCEL_SECONDS)
        raise


async def _cancel(client: Client, job_id: str) -> None:
    await client.invoke("cancel-training", {"jobId": job_id})
    await follow(client, "training_jobs", job_id, until=lambda row: row["status"] in ENDED)
