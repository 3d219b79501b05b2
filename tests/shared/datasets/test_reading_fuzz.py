"""Whatever bytes stand in a file, reading it ends, names lines that are there, and raises nothing.

JSON lines, JSON, CSV and Parquet. FINEFLOW_FUZZ_SECONDS=300 goes on for so long with new bytes; without it a
few hundred files are tried.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.datasets.check import check_file
from shared.datasets.limits import Limits
from tests.conftest import Figure

FUZZ_SECONDS = float(os.environ.get("FINEFLOW_FUZZ_SECONDS", "0"))
ROWS = [
    b'{"messages":[{"role":"user","content":"Q?"},{"role":"assistant","content":"A.","weight":1}],"tools":[]}',
    b'{"conversations":[{"from":"function_call","value":"{\\"name\\":\\"f\\",\\"arguments\\":{}}"}],"system":"S"}',
    b'{"instruction":"a","input":"b","output":"c","history":[["d","e"]]}',
    b'{"prompt":[{"role":"user","content":"Q?"}],"chosen":"A.","rejected":[{"role":"tool","content":"B"}]}',
    b'{"input":{"messages":[{"role":"user","content":"Q"}]},"preferred_output":[],"non_preferred_output":[]}',
    b'{"text":"<|im_start|>user\\nQ<|im_end|>\\n","label":true}',
    b'{"prompt":"Q","completion":"A","label":false}',
]
PIECES = [
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\n", b"\r\n", b"\0", b"\\u0000", b"\\ud800", b"\xff",
    b"null", b"true", b"NaN", b"1e999", b"9" * 30, b"[" * 50, b'{"a":' * 20, b'"role"', b'"content"', b"-",
    b" ", b"\xef\xbb\xbf",
]  # fmt: skip
LIMITS = Limits(line_bytes=600, depth=10, keys=30, messages=4)
LINES = st.lists(st.sampled_from(ROWS) | st.sampled_from(PIECES) | st.binary(max_size=20), max_size=12)


RECORDS = [
    b'question,answer\nQ?,"A ""b"",\nc"\n',
    b"prompt;completion;label\nQ;A;true\n",
    b'messages\tid\n"[{""role"":""user"",""content"":""Q?""},{""role"":""assistant"",""content"":""A.""}]"\t7\n',
    b"prompt|chosen|rejected|tools\n'=1|A|B|[]\n",
]
CSV_PIECES = [b'"', b'""', b",", b";", b"\t", b"|", b"'=", b"\r", b"sep=;\n", b"[{", b"}]", b"true"]
TABLE = pa.table(
    {
        "messages": [[{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "A."}]] * 20,
        "id": range(20),
    }
)


def must_be_read(
    content: bytes, folder: Path, names: Sequence[str] = ("fuzz.jsonl", "fuzz.json", "fuzz.csv")
) -> None:
    for name in names:
        path = folder / name
        path.write_bytes(content)
        report = check_file(path, LIMITS)
        most_lines = TABLE.num_rows if name.endswith(".parquet") else content.count(b"\n") + 1
        for finding in report.findings:
            assert finding.line is None or 1 <= finding.line <= most_lines
            assert finding.column is None or finding.column >= 1
            assert finding.message
            assert finding.hint


@given(parts=LINES, between=st.sampled_from([b"", b"\n", b",", b"[\n"]))
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_bytes_are_read(parts: list[bytes], between: bytes, tmp_path: Path) -> None:
    must_be_read(between.join(parts), tmp_path)


@pytest.mark.timeout(FUZZ_SECONDS + 180)
def test_good_rows_with_a_few_changes_are_read(tmp_path: Path, figure: Figure) -> None:
    seed = int.from_bytes(os.urandom(4)) if FUZZ_SECONDS else 4
    chance, counts = random.Random(seed), Counter[str]()
    end = time.monotonic() + FUZZ_SECONDS
    pq.write_table(TABLE, tmp_path / "good.parquet", row_group_size=7)
    parquet = (tmp_path / "good.parquet").read_bytes()
    while counts.total() < 300 or time.monotonic() < end:
        kind = chance.choices(["JSON", "CSV", "Parquet"], [60, 40, 1])[0]
        counts[kind] += 1
        if kind == "Parquet":  # by a process of its own, which may die
            content = changed(parquet[4:], chance, [bytes([chance.randrange(256)])] * 4)
            must_be_read(b"PAR1" + content, tmp_path, ["fuzz.parquet"])
        elif kind == "JSON":
            must_be_read(changed(b"\n".join(chance.choices(ROWS, k=3)), chance, PIECES), tmp_path)
        else:
            records = chance.choice(RECORDS)
            whole = records + records.partition(b"\n")[2] * 3
            must_be_read(changed(whole, chance, PIECES + CSV_PIECES), tmp_path)
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    figure(f"{told} files from seed {seed}, no exception")


def changed(content: bytes, chance: random.Random, pieces: Sequence[bytes]) -> bytes:
    spoilt = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(spoilt))
        spoilt[at : at + chance.randint(0, 8)] = chance.choice(pieces)
    return bytes(spoilt)
