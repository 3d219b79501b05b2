"""What speaks against training on a dataset, with what to do about it: the rules of `checker`, and those that
only pairs of the stack can break.

Errors block, warnings do not. Only usable pairs are looked at: those that are valid and not rejected. A
finding names the place of the pair in the dataset, from 1, as its line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b
from uuid import UUID

from shared.datasets.checker import Checker
from shared.datasets.checker import Stats as RowStats
from shared.datasets.dataset_xray import DatasetXray
from shared.datasets.findings import Finding
from shared.datasets.model import Pair
from shared.datasets.overlap import Overlap
from shared.datasets.store import pair_tokens

LISTED_A_RULE = 20
LOW_SCORE = 0.3
_MOST_SYSTEM_PROMPTS = 1_000  # that are told apart


class Validation:
    """Takes the pairs of a dataset page by page, in their order; then `finish`.

    Of each rule the first twenty findings are listed; `counts` has them all. Memory: about 100 bytes a pair.
    """

    def __init__(self, format: str, overlap: Overlap, xray: DatasetXray | None = None) -> None:
        self.findings: list[Finding] = []
        self.counts: Counter[str] = Counter()
        self.error_count = 0
        self.excluded_count = 0  # not valid, or rejected
        self.kinds: Counter[str] = Counter()
        self.splits: Counter[str] = Counter()
        self.xray = xray
        self._checker = Checker(format=format, place="pair", must_fit=True)
        self._overlap = overlap
        self._ids = bytearray()  # 16 bytes a pair
        self._systems: Counter[bytes] = Counter()
        self._usual_system: dict[bytes, str] = {}

    @property
    def is_valid(self) -> bool:
        return self.error_count == 0

    @property
    def pair_count(self) -> int:
        """Pairs so far, the excluded ones too."""
        return len(self._ids) // 16

    @property
    def stats(self) -> RowStats:
        return self._checker.stats()

    def pair_id(self, ordinal: int) -> UUID:
        """Of the pair at this place, from 1."""
        return UUID(bytes=bytes(self._ids[16 * (ordinal - 1) : 16 * ordinal]))

    def add(self, pairs: Sequence[Pair]) -> None:
        """The next pairs are looked at. Raises InvalidRequest when the chat template is unusable."""
        numbered = list(enumerate(pairs, start=self.pair_count + 1))
        for pair in pairs:
            self._ids += pair.id.bytes
        usable = [(ordinal, pair) for ordinal, pair in numbered if pair.is_usable]
        self.excluded_count += len(pairs) - len(usable)
        for ordinal, pair in usable:
            self.kinds[pair.kind] += 1
            self.splits[pair.split or "none"] += 1
            self._overlap.add(pair, ordinal)
            self._note_system(pair.system)
            self._take(self._about(pair, ordinal))
        if self.xray is not None:
            self._take(self.xray.add(usable))

    def finish(self) -> None:
        """What concerns all pairs together is found too."""
        self._take(self._checker.finish())
        self._take(self._system_prompts())
        self._take(self._overlap.findings())
        if self.xray is not None:
            self._take(self.xray.finish())

    def _take(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self.counts[finding.rule] += 1
            self.error_count += finding.is_error
            if self.counts[finding.rule] <= LISTED_A_RULE:
                self.findings.append(finding)

    def _about(self, pair: Pair, ordinal: int) -> Iterator[Finding]:
        example = replace(pair.as_example(), line=ordinal)
        yield from self._checker.add(example, token_count=pair_tokens(pair), quality=pair.quality_score)
        if pair.quality_score is not None and pair.quality_score < LOW_SCORE:
            message = f"Its quality is {pair.quality_score:.2f}."
            yield Finding("low_quality", "warning", message, line=ordinal, hint="Edit or reject it.")
        if pair.grounding_score is not None and pair.grounding_score < LOW_SCORE:
            message = f"Only {pair.grounding_score:.0%} of its answer is found in its source."
            hint = "Check the answer against the document."
            yield Finding("low_grounding", "warning", message, line=ordinal, hint=hint)

    def _note_system(self, system: str | None) -> None:
        key = b"" if system is None else blake2b(system.encode(), digest_size=16).digest()
        if key in self._systems or len(self._systems) < _MOST_SYSTEM_PROMPTS:
            self._systems[key] += 1
            self._usual_system.setdefault(key, "" if system is None else system[:60])

    def _system_prompts(self) -> Iterator[Finding]:
        if len(self._systems) < 2:
            return
        (key, times), *_ = self._systems.most_common(1)
        usual = f", {self._usual_system[key]!r}" if key else " one, none"
        several = f"{len(self._systems):,} {'or more ' if len(self._systems) == _MOST_SYSTEM_PROMPTS else ''}"
        yield Finding(
            "mixed_system_prompts",
            "warning",
            f"{several}different system prompts; {times:,} pairs have the commonest{usual}.",
            hint="Use one system prompt in all pairs, and the same one when you ask the model.",
        )
