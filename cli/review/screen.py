"""How a pair under review, its source and a certificate look on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from cli.backend.client import Row
from cli.screen.output import cell, facts, moment, short, table

AROUND_SPAN = 300  # characters of the source before and after what the answer rests on
SHOWN_CHARS = 60  # of a question or an answer in a list
_ROLES = {"system": "S", "user": "Q", "assistant": "A", "tool": "T"}


def turns_of(pair: Row) -> list[Row]:
    """The pair as turns, whichever of its two shapes it has."""
    if pair["messages"] is not None:
        return list(pair["messages"])
    said = [("system", pair["system_message"]), ("user", pair["user_message"])]
    turns = [*said, ("assistant", pair["assistant_message"])]
    return [{"role": role, "content": content} for role, content in turns if content]


def pairs_table(pairs: Sequence[Row]) -> RenderableType:
    """One line a pair, with what speaks against it."""
    return table(
        ("id", "review", "risk", "why", "question", "answer"),
        (
            (
                short(pair["id"]),
                pair["review_status"] + (" *" if pair["is_gold_star"] else ""),
                f"{pair['risk_score']:.1f}",
                ", ".join(_reasons(pair)),
                _shortened(turns_of(pair)[-2]["content"] if len(turns_of(pair)) > 1 else ""),
                _shortened(turns_of(pair)[-1]["content"]),
            )
            for pair in pairs
        ),
        empty="No pair.",
    )


def pair_view(pair: Row, source: Row | None) -> RenderableType:
    """The pair in full, what speaks against it, and the source with the span that its answer rests on."""
    parts: list[RenderableType] = [_headline(pair)]
    doubtful = _doubtful(pair)
    for turn in turns_of(pair):
        line = Text.assemble((f"{_ROLES.get(turn['role'], '?')} ", "bold"), cell(turn["content"]))
        if turn["role"] == "assistant":
            line.highlight_words(doubtful, "bold red")
        parts.append(line)
    if pair["rejected_message"]:
        parts.append(Text.assemble(("- ", "bold red"), cell(pair["rejected_message"])))
    if source is not None:
        parts.append(Padding(_source(pair, source), (1, 0, 0, 2)))
    return Padding(Group(*parts), (1, 0, 0, 0))


def history_table(revisions: Sequence[Row]) -> RenderableType:
    """What was done to a pair, the last step first."""
    return table(
        ("step", "what", "when", "batch"),
        ((row["revision"], row["action"], moment(row["changed_at"]), row["batch_id"]) for row in revisions),
        empty="Nobody has reviewed it yet.",
    )


def certificate_view(standing: Row) -> RenderableType:
    """The verdict in a sentence, then the figures."""
    styles = {"granted": "bold green", "refused": "bold red", "stale": "yellow", "open": "yellow"}
    look = standing["look"]
    share, confidence = standing["max_bad_share"], standing["confidence"]
    promise = f"at most {share:.1%} of the pairs are bad, with {confidence:.0%} confidence"
    sentence = {
        "granted": f"Granted: {promise}.",
        "refused": "Refused: too many of the sample are bad. Review the dataset, then draw again.",
        "stale": "Stale: pairs have changed since. Draw again with --draw-again.",
        "open": f"Not granted yet: {standing['to_review']} more to be reviewed, of which"
        f" {look['allowed_bad'] - standing['bad']} may be bad.",
    }[standing["state"]]
    figures = [
        ("pairs", standing["pairs"]),
        ("reviewed", f"{standing['reviewed']} of {look['pairs']} drawn"),
        ("bad", standing["bad"]),
        ("bound", f"{standing['bad_share_bound']:.2%} bad at most, by what was reviewed so far"),
        ("granted", moment(standing["certified_at"]) if standing["certified_at"] else None),
    ]
    return Group(Text(sentence, style=styles[standing["state"]]), facts(figures))


def fix_view(answer: Row) -> RenderableType:
    """What a fix replaces, and the first pairs that it changes."""
    parts: list[RenderableType] = [
        Text.assemble(
            (f"{_ROLES.get(part['role'], '?')} ", "bold"),
            cell(part["old"]),
            (" -> ", "dim"),
            cell(part["new"]),
        )
        for part in answer["fix"]
    ]
    for example in answer["examples"]:
        for before, after in zip(example["before"], example["after"], strict=True):
            if before != after:
                line = Text.assemble((f"{short(example['pair_id'])}  ", "dim"), cell(after["content"]))
                line.highlight_words([part["new"] for part in answer["fix"] if part["new"]], "bold green")
                parts.append(line)
    return Group(*parts)


def _headline(pair: Row) -> Text:
    state = pair["review_status"] + (" *" if pair["is_gold_star"] else "")
    rated = f"  {pair['rating']}/5" if pair["rating"] else ""
    scores = [
        f"{name} {pair[column]:.2f}"
        for name, column in (
            ("risk", "risk_score"),
            ("quality", "quality_score"),
            ("grounding", "grounding_score"),
        )
        if pair.get(column) is not None
    ]
    line = Text.assemble((short(pair["id"]), "bold"), f"  {state}{rated}  ", ("  ".join(scores), "dim"))
    if reasons := _reasons(pair):
        line.append_text(Text.assemble("  ", (", ".join(reasons), "yellow")))
    return line


def _reasons(pair: Row) -> list[str]:
    """Risk reasons, with the rules behind them where checks found something."""
    return list(dict.fromkeys([*(pair.get("risk_reasons") or []), *pair["issues"]]))


def _doubtful(pair: Row) -> list[str]:
    """Words of the answer that checks did not find in the source."""
    found: Iterable[object] = (pair.get("issue_details") or {}).values()
    return [
        word for words in found if isinstance(words, list) for word in words if isinstance(word, str) and word
    ]


def _source(pair: Row, source: Row) -> Text:
    """The part of the chunk around the span, which is underlined; its beginning where no span is known."""
    content = str(source["content"])
    start = (pair["char_start"] or 0) - source["char_start"]
    end = (pair["char_end"] or 0) - source["char_start"]
    if not 0 <= start < end <= len(content):
        start = end = 0
    low, high = max(0, start - AROUND_SPAN), min(len(content), end + AROUND_SPAN)
    shown = cell(content[low:high])
    shown.stylize("dim")
    shown.stylize("not dim underline", start - low, end - low)
    name = (source.get("documents") or {}).get("name") or "source"
    where = " > ".join([str(name), *source["heading_path"]])
    before, after = "... " if low else "", " ..." if high < len(content) else ""
    return Text.assemble((f"{where}\n", "italic"), (before, "dim"), shown, (after, "dim"))


def _shortened(content: str) -> str:
    flat = " ".join(content.split())
    return flat if len(flat) <= SHOWN_CHARS else flat[: SHOWN_CHARS - 1] + "…"
