"""Review by supabase-js: what an editor, a viewer, a stranger and nobody get."""

import asyncio
import json
from pathlib import Path

from devstack.node_tools import NODE_DIR, node_binary
from devstack.up import Stack
from tests.functions.world import make_world

SCRIPT = Path(__file__).with_name("review.mjs")


async def test_review_by_supabase_js(stack: Stack) -> None:
    async with make_world(stack) as world:
        process = await asyncio.create_subprocess_exec(
            node_binary(), SCRIPT, stack.url, stack.publishable_key, NODE_DIR / "package.json", world.dataset,
            world.token, world.viewer_token, world.stranger_token,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    said = json.loads(out)
    hostile = said.pop("hostile")
    assert hostile[0] == 400, "Postgres holds no NUL"
    assert said == {
        "page": 5,
        "filtered": 1,
        "seenByStranger": 0,
        "viewer": [403, "forbidden"],
        "stranger": [404, "pair_not_found"],
        "anonymous": [401, "42501"],
        "written": [403, "42501"],
        "edited": 1,
        "conflict": [409, "pair_changed"],
        "approved": 2,
        "rated": 1,
        "deleted": 10,
        "undone": 10,
        "history": ["delete", "undo"],
        "certificate": "open",
        "standing": 12,
        "preferences": [{"chosen": "It opens at noon."}],
        "made": ["ready", 1, "edits"],
    }
