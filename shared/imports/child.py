"""The process that reads files of rows: one JSON object a line on standard input, one on standard output.

First comes {"options": ImportOptions, "limits": Limits, "listed_a_rule": n, "batch_rows": n}, then for each
file {"path", "state": where reading is taken up, "is_refused"}. Batches come out, the last one with a report:

    {"pairs": [columns of training_pairs], "rows": so far, "bytes": so far, "state": ..., "report": null}

Whoever wrote the files can stop or fill up this process and no other.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from shared.confined import confine
from shared.datasets.limits import Limits
from shared.imports.file import ImportedFile
from shared.imports.options import ImportOptions

MEMORY_BYTES = 4 * 2**30  # of address space
CPU_SECONDS = 900
BATCH_BYTES = 2 * 2**20


def main() -> None:
    """Answers until its input ends."""
    confine(memory_bytes=MEMORY_BYTES, cpu_seconds=CPU_SECONDS)
    answers, sys.stdout = sys.stdout.buffer, sys.stderr  # whatever else is printed is no answer
    first = orjson.loads(sys.stdin.buffer.readline())
    options = ImportOptions.model_validate(first["options"])
    limits = Limits(**first["limits"])
    for line in sys.stdin.buffer:
        asked = orjson.loads(line)
        file = ImportedFile(Path(asked["path"]), options, limits, first["listed_a_rule"], asked["state"])
        for batch in batches(file, first["batch_rows"], is_refused=asked["is_refused"]):
            answers.write(orjson.dumps(batch, option=orjson.OPT_APPEND_NEWLINE))
            answers.flush()


def batches(file: ImportedFile, batch_rows: int, *, is_refused: bool) -> Iterator[dict[str, Any]]:
    """The pairs of some two MiB or `batch_rows` rows at a time, then the report.

    is_refused: nothing is to be stored, since an earlier file has a bad row and none may be left out; what is
    wrong with this one is told all the same.
    """

    def batch(report: dict[str, Any] | None = None) -> dict[str, Any]:
        progress = {"rows": file.row_count, "bytes": file.byte_count, "state": file.state}
        return {"pairs": pairs, **progress, "report": report}

    pairs: list[orjson.Fragment] = []
    row_count, size = 0, 0
    for count, rows in file.pairs():
        row_count += count
        if not (is_refused or file.is_refused):
            pairs += map(orjson.Fragment, rows)
            size += sum(map(len, rows))
        if size >= BATCH_BYTES or row_count >= batch_rows:
            yield batch()
            pairs, row_count, size = [], 0, 0
    yield batch(file.report())


if __name__ == "__main__":
    main()
