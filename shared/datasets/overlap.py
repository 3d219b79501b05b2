"""What the parts of a split dataset give away of one another. The texts wait on disk, not in memory."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from shared.datasets.findings import Finding
from shared.datasets.leaks import find_leaks
from shared.datasets.model import Pair, SplitName
from shared.datasets.pair_split import said
from shared.datasets.rows import PlainRow
from shared.datasets.split import SPLITS


class Overlap:
    """Takes pairs one after another; use it as a context manager."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fineflow-parts-")
        self._paths = {name: Path(self._folder.name) / name for name in SPLITS}
        self._files = {name: path.open("w", encoding="utf-8") for name, path in self._paths.items()}
        self.is_split = False

    def add(self, pair: Pair, ordinal: int) -> None:
        """ordinal: the place of the pair in its dataset, from 1."""
        part = pair.split or "train"
        self.is_split |= part != "train"
        self._files[part].write(json.dumps([ordinal, said(pair)]) + "\n")

    def findings(self) -> Iterator[Finding]:
        """Pairs of one part that say, or nearly say, what a pair of another part says. Call it once."""
        for file in self._files.values():
            file.close()
        if not self.is_split:
            return
        for leak in find_leaks([self._rows(name) for name in SPLITS]):
            first, second = SPLITS[leak.first.file], SPLITS[leak.second.file]
            how = "" if leak.kind == "exact" else f" nearly (similarity {leak.similarity:.2f})"
            yield Finding(
                "split_overlap",
                "warning",
                f"As one of {second} it says{how} what pair {leak.first.line} of {first} says.",
                line=leak.second.line,
                hint="Split the dataset anew with split-dataset, which keeps such pairs together.",
            )

    def _rows(self, name: SplitName) -> Iterator[PlainRow]:
        with self._paths[name].open(encoding="utf-8") as file:
            for line in file:
                ordinal, text = json.loads(line)
                yield PlainRow(ordinal, text, None, b"")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()
        self._folder.cleanup()
