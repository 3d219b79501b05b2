"""A room imports only from floors below it, or from itself. Reads every import, at any depth."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Longest prefix wins. A module may import modules of a lower floor, and of its own room.
FLOORS = {
    "cli": 9,
    "devstack": 8,
    "functions": 7,
    "shared.generation": 6,
    "shared.imports": 6,
    "shared.jobs": 6,
    "modal_app": 5,
    "shared.datasets": 5,
    "shared.models": 5,
    "shared.providers": 5,
    "shared.webhooks": 5,
    "shared.keys": 4,
    "shared.datasets.loss_mask": 4,  # the trainer's too
    "shared.datasets.template_rows": 3,  # the trainer's too
    "shared.datasets.training_rows": 2,  # the trainer's too
    "shared.models.fetching": 4,  # the trainer's too
    "shared.models.stored": 3,  # the trainer's too
    "shared.documents": 3,
    "shared.training": 3,
    "shared.db": 3,
    "shared.storage": 3,
    "shared.llm": 2,
    "shared.tokens": 2,
    "shared.public_only": 1,
    "shared.confined": 1,
    "shared.markdown": 0,
    "shared.config": 0,
    "shared.errors": 0,
    "shared.log": 0,
}
# Rooms that must never meet, whatever their floors.
STRANGERS = {
    ("functions", "modal_app"),
    ("cli", "functions"),
    ("cli", "modal_app"),
    ("devstack", "modal_app"),
}
HEAVY = {
    "torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes", "sentence_transformers",
}  # fmt: skip
WEB_FRAMEWORKS = {"fastapi", "starlette", "uvicorn"}


def room(module: str) -> str | None:
    matches = [prefix for prefix in FLOORS if module == prefix or module.startswith(prefix + ".")]
    return max(matches, key=len) if matches else None


def sources() -> list[Path]:
    tops = {prefix.partition(".")[0] for prefix in FLOORS}
    return sorted(
        path for top in tops for path in (ROOT / top).rglob("*.py") if "node_modules" not in path.parts
    )


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative imports hide where the arrow points"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_imports_point_downwards(path: Path) -> None:
    here = room(module_name(path))
    if here is None:
        assert path.name == "__init__.py", f"{path} stands in no room of FLOORS"
        return
    for module in imports(path):
        there = room(module)
        if there is None or there == here:
            continue
        assert (here, there) not in STRANGERS, f"{module_name(path)} imports {module}"
        assert FLOORS[there] < FLOORS[here], (
            f"{module_name(path)} (floor {FLOORS[here]}) imports {module} (floor {FLOORS[there]})"
        )


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_shared_and_functions_know_no_torch(path: Path) -> None:
    name = module_name(path)
    tops = {module.partition(".")[0] for module in imports(path)}
    if not name.startswith("modal_app"):
        assert not tops & HEAVY, f"{name} imports {tops & HEAVY}"
    if name.startswith("shared"):
        assert not tops & WEB_FRAMEWORKS, f"{name} imports {tops & WEB_FRAMEWORKS}"
    if "modal" in tops:
        assert name in ("shared.providers.modal", "functions.modal_host") or name.startswith("modal_app")


def test_files_stay_short() -> None:
    long = {
        module_name(path): lines for path in sources() if (lines := len(path.read_text().splitlines())) > 350
    }
    assert not long, f"a reader holds about 200 lines in mind: {long}"
