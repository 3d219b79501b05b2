"""Split, reach, withdraw and restore with supabase-js alone."""

import asyncio
import json
import subprocess
from pathlib import Path

from devstack.node_tools import NODE_DIR, node_binary
from devstack.up import Stack

CLIENT = Path(__file__).with_name("lineage.mjs")


async def test_supabase_js_splits_and_recalls(stack: Stack) -> None:
    process = await asyncio.create_subprocess_exec(
        node_binary(), CLIENT, stack.url, stack.publishable_key, NODE_DIR / "package.json",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    said = json.loads(out)
    pairs = said.pop("pairs")
    split = said.pop("split")
    assert sum(split.values()) == pairs == said.pop("back")
    assert min(split["train"], split["test"]) > 0
    assert 0 < said.pop("reached") < pairs
    assert said == {
        "leaks": {"exact": 0, "near": 0, "source": 0},
        "refused": 403,
        "seenByStranger": None,
        "byViewer": [403, "forbidden"],
        "byStranger": [404, "document_not_found"],
        "reason": "licence ended",
        "leftOf": [1],
        "restored": "ready",
    }
