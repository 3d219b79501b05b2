"""`python -m tests.shared.jobs.crash.zygote`: has imported everything, and forks a process for each order.

Reads orders from standard input, one JSON object a line with a `ticket`, and answers each with a line:
`{"ticket", "code", "effects"}`. There is neither a thread nor an event loop in it, so a fork is safe.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import selectors
import sys
import traceback
from typing import Any

import httpcore  # noqa: F401  # here and below: what is imported late is paid for once
import openai.resources.fine_tuning.fine_tuning
import openai.types.fine_tuning  # noqa: F401

from shared.tokens import count_tokens
from tests.shared.jobs.crash.driver import Order, drive

_CRASHED = 1


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a child prints is no answer
    count_tokens("reads the vocabulary")
    gc.freeze()
    children: dict[int, tuple[int, int, bytes]] = {}  # by the pipe from it: ticket, pid, what came
    waiting = b""
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        while True:
            for found, _ in selector.select():
                file = int(found.fd)
                read = os.read(file, 65_536)
                if file == 0:
                    if not read:
                        return
                    *lines, waiting = (waiting + read).split(b"\n")
                    for line in lines:
                        pipe, child = _fork(json.loads(line))
                        selector.register(pipe, selectors.EVENT_READ)
                        children[pipe] = child
                elif read:
                    ticket, pid, before = children[file]
                    children[file] = (ticket, pid, before + read)
                else:
                    selector.unregister(file)
                    os.close(file)
                    answers.write(json.dumps(_ended(*children.pop(file))) + "\n")


def _fork(asked: dict[str, Any]) -> tuple[int, tuple[int, int, bytes]]:
    mine, its = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(mine)
        os._exit(_live(Order.model_validate(asked["order"]), its))
    os.close(its)
    return mine, (asked["ticket"], pid, b"")


def _live(order: Order, pipe: int) -> int:
    try:
        effects = asyncio.run(drive(order))
    except SystemExit as stuck:
        return int(str(stuck.code))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        return _CRASHED
    os.write(pipe, json.dumps(effects).encode())
    return 0


def _ended(ticket: int, pid: int, written: bytes) -> dict[str, Any]:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {"ticket": ticket, "code": code, "effects": json.loads(written or b"[]")}


if __name__ == "__main__":
    main()
