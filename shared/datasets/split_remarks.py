"""What somebody should know of a split before they trust it: each a warning, with what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from shared.datasets.findings import Finding
from shared.datasets.pair_split import Grouping, PairSplit
from shared.datasets.split import SPLITS, Fractions

_FAR_OFF = 0.05  # of a share of the pairs; 0-1


def remarks(found: PairSplit, grouping: Grouping, fractions: Fractions) -> Iterator[Finding]:
    """The remarks on this split, the weightiest first."""
    if grouping.sectioned_document_id is not None:
        yield _warning(
            "one_document",
            "The dataset began with one document, so its pairs are kept together by section and not by"
            " document: what one section says another may say too.",
            "Add documents and split anew, or judge the model on questions from elsewhere.",
        )
    empty = [name for name in fractions.wanted if not found.split.counts[name]]
    if empty:
        yield _warning(
            "too_few_groups",
            f"{_count(len(set(found.split.groups)), 'group')} of pairs that stay together: "
            f"{' and '.join(empty)} {'is' if len(empty) == 1 else 'are'} empty.",
            "Add documents, or leave out a part.",
        )
    yield from _far_off(found, fractions)
    if found.moved:
        yield _warning(
            "pairs_moved",
            f"{_count(found.moved, 'pair')} changed the part: they say what pairs of another part say, or are"
            " of one document with them.",
            "Judge a model that was trained before on pairs that stayed.",
        )
    if found.uploaded:
        yield _warning(
            "split_of_the_file",
            f"{_count(found.uploaded, 'pair')} came with a split of their own, which decides for them.",
            "Look for what it gives away with check.",
        )


def _far_off(found: PairSplit, fractions: Fractions) -> Iterator[Finding]:
    total, counts = len(found.pairs), found.split.counts
    shares = dict(zip(SPLITS, fractions.shares, strict=True))
    far = [name for name in SPLITS if abs(counts[name] / total - shares[name]) > _FAR_OFF]
    if not far:
        return
    reached = ", ".join(f"{name} {counts[name] / total:.0%} instead of {shares[name]:.0%}" for name in far)
    groups = Counter(found.split.groups)
    largest = max(groups.values())
    yield _warning(
        "fractions_missed",
        f"{reached}: {_count(total, 'pair')} in {_count(len(groups), 'group')}, the largest of {largest}.",
        "A group is never divided. Add documents, try another seed, or accept it.",
    )


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _warning(rule: str, message: str, hint: str) -> Finding:
    return Finding(rule, "warning", message, hint=hint)
