"""Only a trainer that has claimed its job, or a server that is asked, pays for importing torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_IMPORT_ALL = """
import importlib, pkgutil, sys, modal_app
for module in pkgutil.walk_packages(modal_app.__path__, "modal_app."):
    importlib.import_module(module.name)
print(*sys.modules)
"""


def test_no_module_imports_torch_or_asks_for_an_account(tmp_path: Path) -> None:
    nobody = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "MODAL_SERVER_URL": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_ALL],
        env=nobody, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    imported = set(done.stdout.split())
    assert {"modal_app.loop", "modal_app.serve", "modal_app.methods.sft", "modal_app.app"} <= imported
    assert not imported & {"torch", "transformers", "trl", "peft", "datasets", "accelerate"}
