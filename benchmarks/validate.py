"""Checking a file of 100,000 chats on one core: ours with all checks, against a loop over the json module.

The chats are sentences of Python's own documentation, 15 % of them with letters beyond ASCII, of two to five
messages; some are repeated, some hold an address or a phone number. The peer reads line by line, parses with
`json`, and makes the checks of OpenAI's cookbook ("Data preparation and analysis for chat model fine-tuning")
without its tokens, which it counts with tiktoken: keys, roles, contents, an answer, counts of messages; and
what those who train add to them: characters, length by four characters a token, repeated rows. Ours makes
these and all of docs/checking.md: escapes that hide NULs or second keys, order of turns, keys and personal
data, outliers, languages. Tokens are estimated by both. The careful peer is the same loop with as many of
these as the standard library gives: keys that come twice, NULs, the order of turns, and the patterns for keys
and personal data by `re`. The limit parses each line with orjson and looks at nothing.

Peak memory is that of a process that checks 100 MiB, less that of one that checks 1 MiB.
"""

from __future__ import annotations

import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics

ROWS = 100_000
RUNS = 5
WANTED_RATIO, WANTED_MIB = 3.3, 64.0
SYSTEM = "You answer questions about Python for people who learn it. Be brief, and say when you do not know."
OTHER = [
    "Die Größe der Datei wird geprüft, bevor sie geöffnet wird, auch für Gäste.",
    "Le fichier a été créé à côté du précédent, déjà fermé depuis longtemps.",
    "データの各行は一つのオブジェクトです。",
    "Файл был создан рядом, но уже закрыт.",
    "数据集中的每一行都是一个对象。",
    "It says “quoted” — with a dash … and a picture 🐍.",
]
PERSONAL = ["Write to ada.lovelace@analytical.org.", "Call +44 20 7946 0018 before noon."]
MEMORY = """
import resource, sys
from pathlib import Path
from shared.datasets.check import check_file
report = check_file(Path(sys.argv[1]))
assert report.is_valid, report.findings[0]
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def main() -> None:
    core = {min(os.sched_getaffinity(0))}
    os.sched_setaffinity(0, core)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        write(path, ROWS)
        mebibytes = path.stat().st_size / 2**20
        small, large = Path(folder) / "small.jsonl", Path(folder) / "large.jsonl"
        write(small, ROWS * 2**20 // path.stat().st_size)
        write(large, ROWS * 100 * 2**20 // path.stat().st_size)
        peaks = {file: peak_mib(file) for file in (small, large)}
        sizes = {file: file.stat().st_size / 2**20 for file in (small, large)}
        seconds: dict[Callable[[Path], str], list[float]] = {
            ours: [],
            peer: [],
            careful_peer: [],
            parsing: [],
        }
        for run in range(RUNS):  # in turn, so that other work on the machine disturbs all alike
            for method, times in seconds.items():
                if method is careful_peer and run:
                    continue  # it takes longer than all others together
                started = time.process_time()
                told = method(path)
                times.append(time.process_time() - started)
                print(f"{method.__name__:12} {times[-1]:6.3f} s  {told}")
        rate = {method: mebibytes / statistics.median(times) for method, times in seconds.items()}
    for file, peak in peaks.items():
        print(f"peak of a process that checks {sizes[file]:.0f} MiB: {peak:.0f} MiB")
    result = {
        "name": "validate",
        "ours": round(rate[ours]),
        "peer": round(rate[peer]),
        "peer_name": "json module and the checks of OpenAI's cookbook",
        "limit": round(rate[parsing]),
        "limit_name": "orjson.loads of each line",
        "unit": "MiB per second of processor time",
        "ratio_to_peer": round(rate[ours] / rate[peer], 2),
        "careful_peer": round(rate[careful_peer]),
        "careful_peer_name": "the same loop with our checks by json and re",
        "ratio_to_careful_peer": round(rate[ours] / rate[careful_peer], 2),
        "ratio_to_limit": round(rate[ours] / rate[parsing], 2),
        "peak_mib_of_100": round(peaks[large]),
        "peak_mib_of_1": round(peaks[small]),
        "n": RUNS,
    }
    print(json.dumps(result))
    assert peaks[large] - peaks[small] <= WANTED_MIB, "memory grows with the file"
    if result["ratio_to_peer"] < WANTED_RATIO:
        print(f"below the wanted {WANTED_RATIO} x", file=sys.stderr)


def write(path: Path, rows: int) -> None:
    rng = random.Random(1)
    said = sentences()
    with path.open("w", encoding="utf-8") as file:
        lines: list[str] = []
        for _ in range(rows):
            if lines and rng.random() < 0.002:
                file.write(rng.choice(lines))
                continue
            line = json.dumps({"messages": chat(rng, said)}, ensure_ascii=rng.random() < 0.1) + "\n"
            file.write(line)
            lines = [*lines[-20:], line]


def chat(rng: random.Random, said: list[str]) -> list[dict[str, str]]:
    def text(least: int, most: int) -> str:
        return " ".join(rng.choices(said, k=rng.randint(least, most)))

    messages = [{"role": "system", "content": SYSTEM}] if rng.random() < 0.6 else []
    for _ in range(rng.choice([1, 1, 1, 1, 2])):
        messages.append({"role": "user", "content": text(2, 3)})
        messages.append({"role": "assistant", "content": text(1, 4).replace(". ", ".\n\n", 1)})
    if rng.random() < 0.15:
        messages[-1]["content"] += " " + rng.choice(OTHER)
    if rng.random() < 0.002:
        messages[-1]["content"] += " " + rng.choice(PERSONAL)
    return messages


def sentences() -> list[str]:
    """Of the documentation, without its tables of numbers and its code."""
    prose = (" ".join(part.split()) for topic in topics.values() for part in topic.split("\n\n"))
    parts = (part for text in prose for part in re.split(r"(?<=[.?!]) ", text))
    return sorted(
        {part for part in parts if 30 < len(part) < 300 and part[0].isupper() and part[-1] in ".?!"}
    )


def ours(path: Path) -> str:
    from shared.datasets.check import check_file

    report = check_file(path)
    return f"{report.example_count:,} rows, {dict(report.counts)}"


def peer(
    path: Path,
    decode: Callable[[str], object] = json.loads,
    look: Callable[[list[dict[str, str]], Counter[str]], None] | None = None,
) -> str:
    """look: takes the messages of each line, and counts what else is wrong."""
    errors: Counter[str] = Counter()
    missing_system = missing_user = chars = 0
    message_counts, lengths, seen = [], [], set()
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                row = decode(line)
            except ValueError:
                errors["json"] += 1
                continue
            if not isinstance(row, dict):
                errors["data_type"] += 1
                continue
            messages = row.get("messages")
            if not messages:
                errors["missing_messages_list"] += 1
                continue
            for message in messages:
                if "role" not in message or "content" not in message:
                    errors["message_missing_key"] += 1
                if any(key not in ("role", "content", "name", "tool_calls", "weight") for key in message):
                    errors["message_unrecognized_key"] += 1
                if message.get("role") not in ("system", "user", "assistant", "tool"):
                    errors["unrecognized_role"] += 1
                content = message.get("content")
                if not content or not isinstance(content, str):
                    errors["missing_content"] += 1
            if not any(message.get("role") == "assistant" for message in messages):
                errors["example_missing_assistant_message"] += 1
            missing_system += not any(message["role"] == "system" for message in messages)
            missing_user += not any(message["role"] == "user" for message in messages)
            message_counts.append(len(messages))
            size = sum(len(message["content"]) for message in messages)
            chars += size
            lengths.append(size // 4)
            errors["over_limit"] += size // 4 > 4096
            errors["repeated"] += line in seen
            seen.add(line)
            if look:
                look(messages, errors)
    return f"{len(lengths):,} rows, {dict(errors)}, mean {statistics.mean(lengths):.0f} tokens"


def careful_peer(path: Path) -> str:
    from shared.datasets.sensitive import _CARD, _EMAIL, _IBAN, _MORE_SECRETS, _PHONE, _PRIVATE_KEY
    from shared.log import SECRET_SHAPE

    patterns = (SECRET_SHAPE, _MORE_SECRETS, _PRIVATE_KEY, _EMAIL, _PHONE, _IBAN, _CARD)

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a key comes twice")
        return found

    def look(messages: list[dict[str, str]], errors: Counter[str]) -> None:
        roles = [message["role"] for message in messages if message["role"] != "system"]
        errors["turn_order"] += roles != ["user", "assistant"] * (len(roles) // 2)
        for message in messages:
            text = message["content"]
            errors["nul"] += "\0" in text
            errors["blank"] += not text.strip()
            for pattern in patterns:
                errors["sensitive"] += pattern.search(text) is not None

    return peer(path, json.JSONDecoder(object_pairs_hook=once).decode, look)


def parsing(path: Path) -> str:
    import orjson

    count = 0
    with path.open("rb") as file:
        for line in file:
            orjson.loads(line)
            count += 1
    return f"{count:,} rows"


def peak_mib(path: Path) -> float:
    command = [sys.executable, "-c", MEMORY, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    return float(done.stdout)


if __name__ == "__main__":
    main()
