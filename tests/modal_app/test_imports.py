"""Only a trainer that has claimed its job, or a server that is asked, pays for importing torch."""

from __future__ import annotations

import subprocess
import sys

_IMPORT_ALL = """
import importlib, pkgutil, sys, modal_app
for module in pkgutil.walk_packages(modal_app.__path__, "modal_app."):
    importlib.import_module(module.name)
print(*sys.modules)
"""


def test_no_module_imports_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_ALL], capture_output=True, text=True, timeout=60, check=True
    )
    imported = set(done.stdout.split())
    assert {"modal_app.loop", "modal_app.serve", "modal_app.sft"} <= imported
    assert not imported & {"torch", "transformers", "trl", "peft", "datasets", "accelerate"}
