"""Whatever bytes stand in a file, reading it ends, names lines that are there, and raises nothing.

FINEFLOW_FUZZ_SECONDS=300 goes on for so long with new bytes; without it a few hundred files are tried.
"""

import os
import random
import time
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.datasets.check import check_file
from shared.datasets.limits import Limits

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


def must_be_read(content: bytes, folder: Path) -> None:
    for name in ("fuzz.jsonl", "fuzz.json"):
        path = folder / name
        path.write_bytes(content)
        report = check_file(path, LIMITS)
        for finding in report.findings:
            assert finding.line is None or 1 <= finding.line <= content.count(b"\n") + 1
            assert finding.column is None or finding.column >= 1


@given(parts=LINES, between=st.sampled_from([b"", b"\n", b",", b"[\n"]))
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_bytes_are_read(parts: list[bytes], between: bytes, tmp_path: Path) -> None:
    must_be_read(between.join(parts), tmp_path)


def test_good_rows_with_a_few_changes_are_read(tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(4)) if "FINEFLOW_FUZZ_SECONDS" in os.environ else 4
    chance, count = random.Random(seed), 0
    end = time.monotonic() + float(os.environ.get("FINEFLOW_FUZZ_SECONDS", "0"))
    while count < 300 or time.monotonic() < end:
        content = bytearray(b"\n".join(chance.choices(ROWS, k=3)))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(content))
            content[at : at + chance.randint(0, 8)] = chance.choice(PIECES)
        must_be_read(bytes(content), tmp_path)
        count += 1
    print(f"{count} files from seed {seed}, no exception")
