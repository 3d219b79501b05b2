"""Files of rows become datasets through supabase-js, and through the command line, which is supabase-py."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from devstack.node_tools import NODE_DIR, node_binary
from devstack.up import Stack

CLIENT = Path(__file__).with_name("importing.mjs")
ROWS: list[Any] = [
    {"question": "Tall?", "answer": "Very.", "lang": "en"},
    {"question": "Lit?", "answer": "No.", "lang": "en", "feedback": "down", "correction": "Since 1871."},
    {"question": "Hoch?", "answer": "Sehr.", "lang": "de"},
    {"question": "No answer?", "lang": "en"},
]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    file = tmp_path / "log.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return file


async def output(*command: str | Path, **environment: str) -> tuple[int | None, Any]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env={**os.environ, **environment}
    )
    printed, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, json.loads(printed)


async def test_supabase_js(stack: Stack, log: Path) -> None:
    code, told = await output(
        node_binary(), CLIENT, stack.url, stack.publishable_key, NODE_DIR / "package.json", log
    )
    assert code == 0
    assert told["totals"].pop("counts") == {"unknown_format": 1}
    assert told == {
        "stolen": False,
        "refusedStatus": 404,
        "status": "ready",
        "totals": {"rows": 4, "pairs": 2, "badRows": 1, "leftOut": {"filter": 1}},
        "pairs": [["sft", "Tall?", "Very.", None], ["preference", "Lit?", "Since 1871.", "No."]],
        "seenByStranger": 0,
    }


async def test_the_command_line(stack: Stack, log: Path, tmp_path: Path) -> None:
    fineflow = (sys.executable, "-m", "cli.main", "datasets", "import")
    options = {
        "FINEFLOW_URL": stack.url,
        "FINEFLOW_PUBLISHABLE_KEY": stack.publishable_key,
        "FINEFLOW_EMAIL": stack.demo_email,
        "FINEFLOW_PASSWORD": stack.demo_password,
        "FINEFLOW_DATA_DIR": str(tmp_path / "data"),
    }
    code, failed = await output(*fineflow, log, "--where", "lang=en", "--json", **options)
    assert (code, failed["status"], failed["pair_count"]) == (1, "failed", 0)
    assert failed["error"]["details"] == {
        "file": "log.jsonl", "line": 4, "column": None, "rule": "unknown_format",
    }  # fmt: skip
    code, made = await output(
        *fineflow,
        log,
        "--name",
        "Rated",
        "--skip-bad",
        "--where",
        "lang=en",
        "--as",
        "kto",
        "--json",
        **options,
    )
    assert (code, made["status"], made["name"]) == (0, "ready", "Rated")
    assert made["import_report"]["totals"]["leftOut"] == {"filter": 1, "feedback": 1}
    assert made["pair_count"] == 2
