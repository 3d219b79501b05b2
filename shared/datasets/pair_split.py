"""The pairs of a dataset into train, validation and test: as a file is split, and a pair keeps its place.

Pairs of one document, pairs with one value in a field of their metadata, and pairs that say nearly the same
form a group; a group is never divided. It goes where one of its pairs is already: to train if any is there,
because a model may have seen it, else to validation, else to test. Where a group of new pairs goes follows
from the seed and its key, as in `split`. So a pair that was split moves only when a new pair joins its group
to another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import orjson

from shared.datasets.duplicates import clusters
from shared.datasets.leaks import Leak, find_leaks
from shared.datasets.model import Pair, SplitName
from shared.datasets.rows import SOURCE_FIELDS, PlainRow
from shared.datasets.split import SPLITS, Fractions, Split, assigned, content_hash, group_key, named_split


@dataclass(frozen=True)
class Grouping:
    """What keeps pairs together, beside saying the same."""

    metadata_field: str | None = None  # None: document_id and its like
    # Of one document the pairs are kept together by section, not all; None: of none.
    sectioned_document_id: UUID | None = None
    section_of: Mapping[UUID, str] = field(default_factory=dict)  # of the chunks of that document

    def document(self, pair: Pair) -> str | None:
        """The document, or its section; None when the pair is not from one."""
        if pair.document_id is None:
            return None
        if pair.document_id != self.sectioned_document_id:
            return f"document {pair.document_id}"
        # Of a chunk that is gone only the likeness of its pairs is known.
        return self.section_of.get(pair.chunk_id) if pair.chunk_id else None

    def named(self, pair: Pair) -> str | None:
        """What the field says; None when the pair does not have it."""
        if not pair.metadata:
            return None
        for name in (self.metadata_field,) if self.metadata_field else SOURCE_FIELDS:
            if isinstance(value := pair.metadata.get(name), str | int) and value != "":
                return f"{self.metadata_field or 'document'} {value}"
        return None


@dataclass(frozen=True)
class PairSplit:
    """Where each pair went."""

    pairs: Sequence[Pair]
    split: Split
    moved: int  # pairs that lay in another part, as they were split or as they came, and could not stay
    uploaded: int  # pairs that came with a split

    @property
    def content_hash(self) -> str:
        """Equal for equal pairs in equal places, whatever their ids and their order."""
        lines = (_content(pair) for pair in self.pairs)
        return content_hash(zip(self.split.of_row, lines, strict=True))

    def groups(self) -> list[tuple[SplitName, list[UUID]]]:
        """Each group with its pairs, the first pair of the group first."""
        found: dict[int, list[UUID]] = {}
        for pair, first in zip(self.pairs, self.split.groups, strict=True):
            found.setdefault(first, []).append(pair.id)
        return [(self.split.of_row[first], ids) for first, ids in found.items()]


def split_pairs(
    pairs: Sequence[Pair], grouping: Grouping, fractions: Fractions, seed: int, *, restart: bool = False
) -> PairSplit:
    """The split of each pair; those that came with one keep it, also when what was split is split anew."""
    texts = [said(pair) for pair in pairs]
    sources = [(grouping.document(pair), grouping.named(pair)) for pair in pairs]
    groups = clusters((text, *of) for text, of in zip(texts, sources, strict=True))
    before = [uploaded_split(pair) if restart else pair.split for pair in pairs]
    known: dict[int, SplitName] = {}
    for place, first in zip(before, groups, strict=True):
        if place is not None:
            known[first] = min(place, known.get(first, place), key=SPLITS.index)
    keyed = ((first, _key(texts[first], *sources[first])) for first in sorted(set(groups)))
    of_group = assigned(keyed, fractions, seed, known)
    of_pair = [of_group[first] for first in groups]
    return PairSplit(
        pairs,
        Split(of_pair, groups),
        moved=sum(old not in (None, new) for old, new in zip(before, of_pair, strict=True)),
        uploaded=sum(uploaded_split(pair) is not None for pair in pairs),
    )


def pair_leaks(pairs: Sequence[Pair], grouping: Grouping) -> Iterator[tuple[Leak, Pair, Pair]]:
    """What a model knows from train when it is asked the others, and from validation when it is asked test.

    A pair without a split is one of train, as in training.
    """

    def part(name: SplitName) -> Iterator[PlainRow]:
        for number, pair in enumerate(pairs):
            if (pair.split or "train") == name:
                source = grouping.named(pair) or grouping.document(pair)
                yield PlainRow(number, said(pair), source, b"")

    for leak in find_leaks([part(name) for name in SPLITS]):
        yield leak, pairs[leak.first.line], pairs[leak.second.line]


def said(pair: Pair) -> str:
    """Everything that is said in a pair, without its system message: that is said in many alike."""
    return "\n".join([*(turn.content for turn in pair.turns), pair.rejected or ""]).strip()


def uploaded_split(pair: Pair) -> SplitName | None:
    """The split that the pair came with, in a column of its file; None: without one."""
    return named_split(pair.metadata.get("split"))


def only_document(pairs: Sequence[Pair]) -> UUID | None:
    """The document that every pair comes from; None when there are several, or one comes from nowhere."""
    documents = {pair.document_id for pair in pairs}
    return documents.pop() if len(documents) == 1 else None


def _key(text: str, document: str | None, named: str | None) -> bytes:
    return group_key(text, document or named)


def _content(pair: Pair) -> bytes:
    messages = [message.as_dict() for message in pair.messages]
    what = (pair.kind, messages, pair.rejected, pair.is_desirable, pair.tools)
    return orjson.dumps(what, option=orjson.OPT_SORT_KEYS)
