"""What reviewing asks of the database. Every change is one of its functions, and can be taken back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from cli.backend.client import Client, Row
from cli.backend.lookup import FULL_ID, not_found
from cli.exits import CliError, ExitCode

# What a filter may name, and how its words are read.
_NUMBERS = ("min_quality", "max_quality", "min_rating")
_FLAGS = ("is_valid", "is_gold_star")
_WORDS = ("review_status", "kind", "split", "issue", "document_id", "search")
FILTER_HELP = "Any of " + ", ".join((*_WORDS, *_FLAGS, *_NUMBERS)) + "; again for more conditions."


def parse_filter(conditions: Sequence[str]) -> Row:
    """The filter that `KEY=VALUE` conditions say; {} when there is none. Raises CliError."""
    parsed: Row = {}
    for condition in conditions:
        key, equals, value = condition.partition("=")
        key = key.strip()
        if not equals or key not in (*_NUMBERS, *_FLAGS, *_WORDS):
            raise CliError(
                f"--where {condition!r} is no condition.", hint=FILTER_HELP, exit_code=ExitCode.USAGE
            )
        parsed[key] = _parsed(key, value)
    return parsed


def _parsed(key: str, value: str) -> Any:
    if key in _FLAGS:
        if value.lower() not in ("true", "false"):
            raise CliError(f"{key} is true or false.", exit_code=ExitCode.USAGE)
        return value.lower() == "true"
    if key in _NUMBERS:
        try:
            return float(value) if "quality" in key else int(value)
        except ValueError:
            raise CliError(f"{key} is a number.", exit_code=ExitCode.USAGE) from None
    return value


async def riskiest(
    client: Client, dataset_id: str, condition: Row, *, limit: int, offset: int = 0
) -> list[Row]:
    """Pairs that meet the condition, those to be reviewed first, the riskiest before all."""
    asked = {"p_dataset_id": dataset_id, "p_filter": condition, "p_limit": limit, "p_offset": offset}
    return await client.rows(client.supabase.rpc("riskiest_pairs", asked))


async def pairs_by_id(client: Client, ids: Sequence[str]) -> list[Row]:
    """Pairs with their risk, in the order of the ids; what is gone is left out."""
    rows = await client.rows(client.supabase.table("pairs_to_review").select("*").in_("id", list(ids)))
    known = {row["id"]: row for row in rows}
    return [known[pair_id] for pair_id in ids if pair_id in known]


async def find_pair(client: Client, reference: str) -> Row:
    """The pair with this id, or the only one whose id begins so. Raises CliError."""
    return (await find_pairs(client, [reference]))[0]


async def find_pairs(
    client: Client, references: Sequence[str], *, dataset_id: str | None = None
) -> list[Row]:
    """The pair of each id, which may be shortened to its first eight characters or more. Raises CliError."""
    return [await _pair(client, reference, dataset_id) for reference in references]


async def _pair(client: Client, reference: str, dataset_id: str | None) -> Row:
    low, high = _bounds(reference)
    query = client.supabase.table("training_pairs").select("*").gte("id", low).lte("id", high)
    if dataset_id is not None:
        query = query.eq("dataset_id", dataset_id)
    found = await client.rows(query.limit(2))
    if not found:
        raise not_found(
            f"There is no pair {reference}.", "A deleted one comes back with --restore and its id."
        )
    if len(found) > 1:
        raise not_found(f"Several pairs begin with {reference}.", "Give more of the id.")
    return found[0]


def _bounds(reference: str) -> tuple[str, str]:
    """The first and the last id that begin so."""
    digits = reference.replace("-", "").lower()
    if len(digits) < 8 or len(digits) > 32 or set(digits) - set("0123456789abcdef"):
        raise not_found(f"{reference!r} is no id of a pair.", "Give its first eight characters or more.")
    # With dashes: digits alone are a number to the embedded stack's REST.
    return str(UUID(digits.ljust(32, "0"))), str(UUID(digits.ljust(32, "f")))


def require_full_ids(references: Sequence[str]) -> list[str]:
    """What names pairs that are not there any more. Raises CliError for a shortened id."""
    for reference in references:
        if not FULL_ID.fullmatch(reference):
            raise not_found(f"{reference!r} is no full id.", "A deleted pair is known by its full id only.")
    return list(references)


async def review(
    client: Client,
    dataset_id: str,
    action: str,
    *,
    ids: list[str] | None = None,
    where: Row | None = None,
    rating: int | None = None,
    on_progress: Callable[[int], None] = lambda changed: None,
) -> Row:
    """What was done to these ids, or to all that the filter names: {action, matched, changed, batch_ids}.

    review_pairs is called again while pairs remain; `on_progress` is told how many have changed so far.
    """
    asked = {
        "p_dataset_id": dataset_id,
        "p_action": action,
        "p_pair_ids": ids,
        "p_filter": where,
        "p_rating": rating,
    }
    matched = changed = 0
    batches: list[str] = []
    while True:
        answer: Row = await call(client, "review_pairs", asked)
        matched = max(matched, answer["matched"])
        changed += answer["changed"]
        batches += [answer["batch_id"]] if answer["batch_id"] else []
        if not answer["remaining"] or not answer["changed"]:
            return {"action": action, "matched": matched, "changed": changed, "batch_ids": batches}
        on_progress(changed)


async def edit(client: Client, pair: Row, changes: Row) -> Row:
    """The pair after the edit. Raises what says that somebody changed it since it was read."""
    asked = {"p_pair_id": pair["id"], "p_changes": changes, "p_expected_revision": pair["revision"]}
    answer: Row = await call(client, "edit_pair", asked)
    return answer


async def fix(client: Client, pair_id: str, *, preview: bool) -> Row:
    """What the last edit replaced, in the pairs that have it: {fix, matched, changed, batch_ids, examples}.

    With preview it is only shown; without, apply_fix is called again while pairs remain.
    """
    asked = {"p_pair_id": pair_id, "p_preview": preview}
    answer: Row = await call(client, "apply_fix", asked)
    total = {**answer, "batch_ids": [answer["batch_id"]] if answer["batch_id"] else []}
    del total["batch_id"]
    while answer["changed"] and total["changed"] < total["matched"]:
        answer = await call(client, "apply_fix", asked)
        total["changed"] += answer["changed"]
        total["batch_ids"] += [answer["batch_id"]] if answer["batch_id"] else []
    return total


async def call(client: Client, function: str, parameters: Row) -> Any:
    return (await client.supabase.rpc(function, parameters).execute()).data


async def due_of_sample(client: Client, dataset_id: str, limit: int) -> list[str]:
    """The pairs of the newest sample that are to be judged next, in the order drawn; [] when none is.

    Raises CliError when no sample was drawn.
    """
    standing: Row | None = await call(client, "certificate_standing", {"p_dataset_id": dataset_id})
    if standing is None:
        raise not_found("No sample was drawn yet.", "Draw one with `fineflow datasets certificate DATASET`.")
    if standing["state"] != "open":
        return []
    query = client.supabase.table("review_sample_pairs").select("pair_id").is_("verdict", "null")
    query = query.eq("sample_id", standing["sample_id"]).lte("position", standing["look"]["pairs"])
    return [str(row["pair_id"]) for row in await client.rows(query.order("position").limit(limit))]


async def source_of(client: Client, pair: Row) -> Row | None:
    """Its chunk with the name of its document; None when it is not from one, or the chunk is gone."""
    if pair.get("chunk_id") is None:
        return None
    columns = "content,char_start,heading_path,documents(name)"
    query = client.supabase.table("chunks").select(columns).eq("id", pair["chunk_id"])
    return next(iter(await client.rows(query)), None)
