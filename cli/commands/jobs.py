"""`fineflow jobs`: what is training, how far it is, and how it ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console

from cli.backend.client import Client, Row, open_client
from cli.backend.live import Update, follow
from cli.backend.lookup import Project, find, newest, project_id
from cli.command import JsonFlag, command, execute
from cli.exits import CliError, ExitCode
from cli.screen.bars import job_bar
from cli.screen.jobs import job_facts, job_result, jobs_table
from cli.screen.output import Result, notes

app = typer.Typer(help="Training jobs.")

JobName = Annotated[str, typer.Argument(metavar="JOB", help="An id, its beginning, or `last`.")]
FollowFlag = Annotated[bool, typer.Option("--follow", "-f", help="Show a live bar until it ends.")]
ENDED = ("completed", "failed", "cancelled")
SHOWN_EVENTS = 100


@app.callback(invoke_without_command=True)
def jobs(
    context: typer.Context, follow: FollowFlag = False, project: Project = None, as_json: JsonFlag = False
) -> None:
    """Training jobs: without a command the list; with --follow the newest one, live."""
    if context.invoked_subcommand is None:
        work = follow_command("last", project) if follow else list_jobs(project)
        raise typer.Exit(execute(work, as_json=as_json))


@command(app, "list")
async def list_jobs(project: Project = None) -> Result:
    """The jobs of a project, newest first."""
    async with open_client() as client:
        jobs = await newest(client, "training_jobs", await project_id(client, project))
    return Result(jobs, jobs_table(jobs))


@command(app, "show")
async def show(job: JobName = "last", follow: FollowFlag = False, project: Project = None) -> Result:
    """One job and what happened to it."""
    async with open_client() as client:
        row = await find_job(client, job, project)
        if follow:
            return job_result(await follow_job(client, str(row["id"]), notes()))
        query = client.supabase.table("training_job_events").select("*").eq("job_id", row["id"])
        events = await client.rows(query.order("id").limit(SHOWN_EVENTS))
    return Result({**row, "events": events}, job_facts(row, events=events))


@command(app, "follow")
async def follow_command(job: JobName = "last", project: Project = None) -> Result:
    """A live bar until the job ends. Exit code 1 when it does not complete."""
    async with open_client() as client:
        row = await find_job(client, job, project)
        return job_result(await follow_job(client, str(row["id"]), notes()))


@command(app, "cancel")
async def cancel(job: JobName, project: Project = None) -> Result:
    """Ask a job to stop; the provider's answer decides how it ends."""
    async with open_client() as client:
        row = await find_job(client, job, project)
        answer = await client.invoke("cancel-training", {"jobId": row["id"]})
    next_step = None if answer["status"] in ENDED else "It stops at its next step."
    return Result(answer, job_facts({"id": answer["jobId"], "status": answer["status"]}, next_step))


async def find_job(client: Client, reference: str, project: str | None) -> Row:
    """The job that `reference` names; `last` is the newest. Raises CliError when there is none."""
    target = await project_id(client, project)
    if reference != "last":
        return await find(client, "training_jobs", target, reference, thing="job")
    if jobs := await newest(client, "training_jobs", target):
        return jobs[0]
    raise CliError(
        "There is no job yet.",
        hint="Start one with `fineflow train DATASET`.",
        code="not_found",
        exit_code=ExitCode.USAGE,
    )


async def follow_job(
    client: Client, job_id: str, console: Console, on_update: Callable[[Update], None] = lambda update: None
) -> Row:
    """The job row when it has ended; a live bar on `console` shows it meanwhile."""
    with job_bar(console) as bar:

        def shown(update: Update) -> None:
            bar.update(update.row)
            on_update(update)

        return await follow(
            client, "training_jobs", job_id, until=lambda row: row["status"] in ENDED, on_update=shown
        )
