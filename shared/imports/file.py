"""One file on its way into pairs, and what is found on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from shared.datasets.chats import example_of
from shared.datasets.check import FileReport
from shared.datasets.checker import Checker
from shared.datasets.examples import Example
from shared.datasets.findings import Finding
from shared.datasets.limits import Limits
from shared.datasets.reading import Reading
from shared.datasets.sources import ChatRun
from shared.datasets.turns import NotRead
from shared.imports.logs import LeftOut, chosen, log_row
from shared.imports.options import ImportOptions
from shared.imports.pair_rows import pair_row, with_system_prompt


class ImportedFile:
    """Reads a file once. Equal files give equal pairs in the same order, so reading can be taken up again.

    state: what an earlier reading of the same file had come to, as `state` told it; empty: it begins anew.
    """

    def __init__(
        self, path: Path, options: ImportOptions, limits: Limits, listed_a_rule: int, state: dict[str, Any]
    ) -> None:
        self._options, self._listed_a_rule = options, listed_a_rule
        self._reading = Reading(path, limits, options.mapping)
        # No format: what only OpenAI would not take is not bad here. Only validation compares rows.
        self._checker = Checker(format="", file=path.name)
        self._items_done = state.get("items", 0)  # rows and findings
        self._pair_count = state.get("pairs", 0)
        self._bad_row_count = state.get("badRows", 0)
        self._left_out: Counter[LeftOut] = Counter(state.get("leftOut", {}))
        self._found = FileReport(path.name)
        self._found.error_count = state.get("errorCount", 0)
        self._found.findings = [Finding(**finding) for finding in state.get("findings", [])]
        self._found.counts = Counter(state.get("counts", {}))

    @property
    def row_count(self) -> int:
        """Rows that were read so far, the bad ones included."""
        return self._reading.row_count

    @property
    def byte_count(self) -> int:
        """About how far into the file that is."""
        return self._reading.byte_count

    @property
    def state(self) -> dict[str, Any]:
        """What reading can be taken up from."""
        return {
            "items": self._items_done,
            "pairs": self._pair_count,
            "badRows": self._bad_row_count,
            "leftOut": dict(self._left_out),
            "errorCount": self._found.error_count,
            "findings": [finding.as_dict() for finding in self._found.findings],
            "counts": dict(self._found.counts),
        }

    @property
    def is_refused(self) -> bool:
        """Whether a row was bad and none may be left out."""
        return self._found.error_count > 0 and not self._options.skip_bad_rows

    def pairs(self) -> Iterator[tuple[int, list[bytes]]]:
        """How many rows or findings, and the pairs that came of them: columns of training_pairs as JSON.

        Those that the state knows are passed over. Between two of these the state can be asked for.
        """
        known = self._items_done
        for item in self._reading.in_runs():
            count = len(item.chats) if isinstance(item, ChatRun) else 1
            if known >= count:
                known -= count
                continue
            if isinstance(item, ChatRun):
                pairs = self._pairs_of_run(ChatRun(item.line + known, item.chats[known:]))
            elif isinstance(item, Finding):
                pairs = []
                self._bad_row_count += item.is_error
                self._add(item)
            else:
                pairs = self._pairs_of(item)
            self._items_done += count - known
            yield count - known, pairs
            known = 0

    def report(self) -> dict[str, Any]:
        """What was found, once all is read."""
        self._found.detected, self._found.row_count = self._reading.detected, self._reading.row_count
        self._found.example_count = self._pair_count
        counted = {"pairs": self._pair_count, "badRows": self._bad_row_count, "leftOut": dict(self._left_out)}
        return self._found.as_dict() | counted

    def _pairs_of_run(self, run: ChatRun) -> list[bytes]:
        examples = [example_of(chat, line) for line, chat in enumerate(run.chats, start=run.line)]
        if self._options.log is not None or self._options.system_prompt is not None:
            return [pair for example in examples for pair in self._pairs_of(example)]
        bad_lines = set()
        for finding in self._checker.add_run(run):
            self._add(finding)
            if finding.is_error:
                bad_lines.add(finding.line)
        pairs = [orjson.dumps(pair_row(one)) for one in examples if one.line not in bad_lines]
        self._bad_row_count += len(examples) - len(pairs)
        self._pair_count += len(pairs)
        return pairs

    def _pairs_of(self, row: Example) -> list[bytes]:
        """No pairs when the row is left out or bad, which is then counted."""
        try:
            wanted, columns = self._wanted(row)
            if isinstance(wanted, str):
                self._left_out[wanted] += 1
                return []
            examples = [with_system_prompt(example, self._options.system_prompt) for example in wanted]
            rows = [pair_row(example) | columns for example in examples]
        except NotRead as reason:
            self._bad_row_count += 1
            self._add(
                Finding(reason.rule, "error", str(reason), self._found.file, row.line, None, reason.hint)
            )
            return []
        if not self._are_good(examples, rows):
            self._bad_row_count += 1
            return []
        self._pair_count += len(rows)
        return [orjson.dumps(one) for one in rows]

    def _wanted(self, row: Example) -> tuple[list[Example] | LeftOut, dict[str, Any]]:
        """What is made of the row, and what else its pairs say. Raises NotRead."""
        if self._options.log is None:
            return [row], {}
        said = log_row(row)
        columns = {"rating": said.rating, "is_gold_star": said.is_gold_star}
        return chosen(said, self._options.log), {k: v for k, v in columns.items() if v is not None}

    def _are_good(self, examples: list[Example], rows: list[dict[str, Any]]) -> bool:
        is_good = True
        for example, row in zip(examples, rows, strict=True):
            for finding in self._checker.add(example, token_count=row["token_count"]):
                self._add(finding)
                is_good &= not finding.is_error
        return is_good

    def _add(self, finding: Finding) -> None:
        self._found.add(finding, self._listed_a_rule)
