"""Checking and exporting a dataset through supabase-js, as its owner and as a viewer."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from devstack.node_tools import NODE_DIR, node_binary
from devstack.up import Stack
from tests.functions.world import make_world

CLIENT = Path(__file__).with_name("datasets.mjs")


async def test_supabase_js_checks_and_exports(stack: Stack) -> None:
    async with make_world(stack) as world:
        dataset = await world.new_dataset(pairs=14)
        world.rows(
            "update public.training_pairs set kind = 'preference', rejected_message = '=worse()'"
            " where dataset_id = %s and ordinal in (3, 4)",
            dataset,
        )
        process = await asyncio.create_subprocess_exec(
            node_binary(), CLIENT, stack.url, stack.publishable_key, NODE_DIR / "package.json",
            world.token, world.viewer_token, dataset,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    assert json.loads(out) == {
        "valid": True,
        "shown": "Door 0 opens with 0.<|im_end|>",
        "refused": 403,
        "stored": True,
        "xrays": [["fineflow/tiny", 12]],
        "lines": [
            "prompt,chosen,rejected",
            "What opens door 3?,Door 3 opens with 21.,'=worse()",
            "What opens door 4?,Door 4 opens with 28.,'=worse()",
        ],
        "signed": True,
        "card": True,
    }
