"""The card beside an export: what is in the file, as README.md of a dataset on the Hugging Face Hub."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from shared.datasets.export import Choice, Exported
from shared.db import Row
from shared.markdown import line, table

_LISTED = 50  # names of documents and of files
# Of the Hub: huggingface.co/docs/hub/datasets-cards, size_categories.
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def card(dataset: Row, choice: Choice, exported: Exported, file_name: str) -> str:
    """Markdown with a head that the Hub reads. The license is left for a person."""
    part = choice.split or "train"
    head = [
        "---",
        "license: # fill in, for example cc-by-4.0",
        f"pretty_name: {json.dumps(dataset['name'], ensure_ascii=False)}",
        "size_categories:",
        f"- {next((name for most, name in _SIZES if exported.pair_count < most), '1M<n<10M')}",
        "configs:",
        "- config_name: default",
        "  data_files:",
        f"  - split: {part}",
        f"    path: {json.dumps(file_name)}",
        "---",
    ]
    facts = [
        ("Pairs", f"{exported.pair_count:,}"),
        ("Format", f"{choice.format}, as {choice.container}"),
        ("Chosen", ", ".join([choice.include, *filter(None, (choice.split, choice.kind))])),
        ("Left out", f"{exported.skipped_count:,} that the format cannot hold"),
        ("Kinds", _counted(exported.kinds)),
        ("Splits", _counted(exported.splits)),
        ("Review", _counted(exported.reviews)),
        ("Made by", _counted(exported.generators)),
        ("Provenance", "a row tells where it comes from" if choice.with_provenance else "not in the rows"),
        ("SHA-256", f"`{exported.sha256}`"),
    ]
    text = [
        *head,
        "",
        f"# {line(dataset['name'])}",
        "",
        *table(facts),
        "",
        *_validation(dataset.get("validation")),
        *_names("Documents", exported.documents),
        *_names("Files", exported.files),
        "## License",
        "",
        "Not stated yet. Name it here and in the head of this file before you pass the data on: it follows"
        " from the documents and files above, and from the terms of the models that made the pairs.",
    ]
    return "\n".join(text) + "\n"


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{line(name)} {count:,}" for name, count in sorted(counts.items()))


def _validation(validation: dict[str, Any] | None) -> list[str]:
    if not validation:
        return ["## Validation", "", "Not validated.", ""]
    verdict = "Valid" if validation["valid"] else "Not valid"
    when = f", checked {validation['checkedAt'][:10]}" if validation.get("checkedAt") else ""
    rules = [f"- `{rule}`: {count:,}" for rule, count in sorted(validation.get("counts", {}).items())]
    return ["## Validation", "", f"{verdict}{when}.", "", *rules, *([""] if rules else [])]


def _names(title: str, names: Iterable[str]) -> list[str]:
    known = sorted(names)
    if not known:
        return []
    more = [f"- and {len(known) - _LISTED:,} more"] if len(known) > _LISTED else []
    return [f"## {title}", "", *(f"- {line(name)}" for name in known[:_LISTED]), *more, ""]
