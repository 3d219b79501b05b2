"""`fineflow datasets split`, `dedupe` and `leaks`: files in and out, no stack, no account.

Files that are read may be JSONL, JSON, CSV or Parquet; `split` writes JSONL, `dedupe` what its output's name
says. Only `split` without `--output` means a dataset of the stack.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from cli.backend.lookup import Project
from cli.command import command
from cli.commands.dataset_split import split_dataset
from cli.exits import CliError, ExitCode
from cli.screen.output import Result, facts, table

if TYPE_CHECKING:
    from shared.datasets.leaks import Leak
    from shared.datasets.model import SplitName
    from shared.datasets.rows import PlainRow

app = typer.Typer()

LISTED = 100  # with --json; of each kind
SHOWN = 20  # on the terminal
USUAL_SEED = 42
_MADE = ".made"
Share = Annotated[float | None, typer.Option(help="Share of the rows, 0-1.")]
RowsFile = Annotated[Path, typer.Argument(metavar="FILE", help="JSONL, JSON, CSV or Parquet.")]
GroupBy = Annotated[
    str | None,
    typer.Option(metavar="FIELD", help="What names a row's document. Default: document_id and its like."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace existing files.")]


@command(app, "split")
async def split(
    target: Annotated[
        str, typer.Argument(metavar="FILE|DATASET", help="A file of rows with --output, else a dataset.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="For the three files.")
    ] = None,
    train: Share = None,
    validation: Share = None,
    test: Share = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Another seed, another split. Default: 42.")] = None,
    group_by: GroupBy = None,
    force: Force = False,
    restart: Annotated[bool, typer.Option("--restart", help="Split a dataset anew.")] = False,
    check: Annotated[bool, typer.Option("--check", help="List what a dataset's parts give away.")] = False,
    project: Project = None,
) -> Result:
    """Divide a file or dataset: no document or near-duplicate is in two parts; what is added moves no other.

    Shares left out are 0 when one is given; none given: 0.8, 0.1 and 0.1.
    """
    shares = None if train is validation is test is None else (train or 0, validation or 0, test or 0)
    if output is None:
        return await split_dataset(
            target,
            shares=shares,
            seed=seed,
            group_by=group_by,
            restart=restart,
            check=check,
            project=project,
        )
    if restart or check or project:
        message = "--restart, --check and --project are for a dataset, and --output is for a file."
        raise CliError(message, exit_code=ExitCode.USAGE)
    return _split_file(Path(target), output, shares, USUAL_SEED if seed is None else seed, group_by, force)


def _split_file(
    file: Path,
    output: Path,
    shares: tuple[float, float, float] | None,
    seed: int,
    group_by: str | None,
    force: bool,
) -> Result:
    from shared.datasets.split import Fractions, content_hash, split_rows

    with _refusals():
        fractions = Fractions(*shares) if shares else Fractions()
        found = split_rows(_rows(file, group_by), fractions, seed)
        paths: dict[SplitName, Path] = {name: output / f"{name}.jsonl" for name in fractions.wanted}
        _refuse_existing(paths.values(), force)
        output.mkdir(parents=True, exist_ok=True)
        documents = set()

        def written(stream_of: dict[SplitName, IO[bytes]]) -> Iterator[tuple[SplitName, bytes]]:
            for row, name in zip(_rows(file, group_by), found.of_row, strict=True):
                stream_of[name].write(row.raw + b"\n")
                documents.add(row.source)
                yield name, row.raw

        with _replacing(list(paths.values())) as streams:
            digest = content_hash(written(dict(zip(paths, streams, strict=True))))
            if group_by and not documents - {None}:
                raise CliError(f"No row of {file} has a {group_by}.", exit_code=ExitCode.USAGE)
    data = {
        "rows": len(found.of_row),
        "groups": len(set(found.groups)),
        "counts": found.counts,
        "groupCounts": found.group_counts,
        "seed": seed,
        "documents": len(documents - {None}),
        "contentHash": digest,
        "files": {name: str(path) for name, path in paths.items()},
    }
    parts = {
        name: f"{count} rows in {found.group_counts[name]} groups" for name, count in found.counts.items()
    }
    return Result(data, facts([*parts.items(), ("documents", data["documents"]), ("content hash", digest)]))


@command(app, "dedupe")
async def dedupe(
    file: RowsFile,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="The rows that are kept.")],
    force: Force = False,
) -> Result:
    """Keep the first row of each cluster of equal and near-duplicate rows, and list the others."""
    from shared.datasets.duplicates import clusters

    lines: list[int] = []

    def seen() -> Iterator[tuple[str, None]]:
        for row in _rows(file, None):
            lines.append(row.line)
            yield row.text, None

    with _refusals():
        _refuse_existing([output], force)
        first_of = clusters(seen())
        with _replacing([output]) as (stream,):
            for number, row in enumerate(_rows(file, None)):
                if first_of[number] == number:
                    stream.write(row.raw + b"\n")
    dropped = [
        {"line": lines[number], "keptLine": lines[first]}
        for number, first in enumerate(first_of)
        if first != number
    ]
    kept = len(lines) - len(dropped)
    data = {"rows": len(lines), "kept": kept, "dropped": dropped, "file": str(output)}
    said = [f"{kept} of {len(lines)} rows in {output}"]
    said += [f"  line {item['line']} says what line {item['keptLine']} says" for item in dropped[:SHOWN]]
    said += [f"  and {len(dropped) - SHOWN} more; --json has them all"] if len(dropped) > SHOWN else []
    return Result(data, "\n".join(said))


@command(app, "leaks")
async def leaks(
    train: Annotated[Path, typer.Argument(help="JSONL, JSON, CSV or Parquet.")],
    validation: Annotated[Path, typer.Argument(help="JSONL, JSON, CSV or Parquet.")],
    test: Annotated[Path | None, typer.Argument(help="JSONL, JSON, CSV or Parquet.")] = None,
    group_by: GroupBy = None,
) -> Result:
    """Find rows of one file that another gives away: equal, near, of one document. Exit code 1 if any."""
    from shared.datasets.leaks import find_leaks

    files = [train, validation, *([test] if test else [])]
    counts: Counter[str] = Counter(exact=0, near=0, source=0)
    listed = []
    with _refusals():
        for leak in find_leaks([_rows(file, group_by) for file in files]):
            counts[leak.kind] += 1
            if counts[leak.kind] <= LISTED:
                listed.append(_described(leak, files))
    data = {"leaks": listed, "counts": dict(counts)}
    shown = table(
        ("kind", "line", "and line", "alike", "document"),
        (
            (
                leak["kind"],
                _where(leak["first"]),
                _where(leak["second"]),
                f"{leak['similarity']:.0%}",
                leak["source"],
            )
            for leak in listed[:SHOWN]
        ),
        empty="No leaks.",
    )
    return Result(data, shown, ExitCode.FAILED if listed else ExitCode.OK)


def _described(leak: Leak, files: Sequence[Path]) -> dict[str, Any]:
    first, second = (
        {"file": str(files[place.file]), "line": place.line} for place in (leak.first, leak.second)
    )
    return {
        "kind": leak.kind,
        "first": first,
        "second": second,
        "similarity": leak.similarity,
        "source": leak.source,
    }


def _where(place: dict[str, Any]) -> str:
    return f"{Path(place['file']).name}:{place['line']}"


def _rows(file: Path, group_by: str | None) -> Iterator[PlainRow]:
    from shared.datasets.rows import SOURCE_FIELDS, read_rows

    return read_rows(file, (group_by,) if group_by else SOURCE_FIELDS)


@contextmanager
def _refusals() -> Iterator[None]:
    """What is wrong with a file or an option ends the command with exit code 2."""
    from shared.errors import InvalidRequest

    try:
        yield
    except InvalidRequest as error:
        raise CliError(
            error.message, code=error.code, details=error.details, exit_code=ExitCode.USAGE
        ) from None
    except OSError as error:
        message = f"{error.filename}: {error.strerror}."
        raise CliError(message, code="unreadable", exit_code=ExitCode.USAGE) from None


def _refuse_existing(paths: Iterable[Path], force: bool) -> None:
    for path in paths:
        if path.exists() and not force:
            hint = "Choose another place with --output, or replace it with --force."
            raise CliError(f"{path} exists already.", hint=hint, exit_code=ExitCode.USAGE)


@contextmanager
def _replacing(paths: Sequence[Path]) -> Iterator[list[IO[bytes]]]:
    """Files to be written as JSONL; they take their names when all went well, and are gone when it did not.

    One that by its name is JSON, CSV or Parquet is made so in the end.
    """
    from shared.datasets.containers import container_of, write_container

    parts = [path.with_name(f".{path.name}.{os.getpid()}.part") for path in paths]
    streams: list[IO[bytes]] = []
    try:
        for part in parts:
            streams.append(part.open("wb"))
        yield streams
        for stream in streams:
            stream.close()
        for part, path in zip(parts, paths, strict=True):
            container = container_of(path) or "jsonl"
            if container != "jsonl":
                made = part.with_suffix(_MADE)
                write_container(part, made, container)
                made.replace(part)
            part.replace(path)
    finally:
        for stream, part in zip(streams, parts, strict=False):
            stream.close()
            part.unlink(missing_ok=True)
            part.with_suffix(_MADE).unlink(missing_ok=True)
