"""What the documents show is there, and runs."""

import ast
import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

from devstack.node_tools import NODE_DIR, node_binary
from devstack.up import Stack
from functions.manage_api_keys.handler import ManageApiKeys
from functions.registry import FUNCTIONS
from shared.config import Settings
from shared.datasets import file_rows, parquet_rows, sensitive

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "web-app.mjs"


async def test_the_web_app_runs_as_it_stands(stack: Stack) -> None:
    environment = {**os.environ, "FINEFLOW_URL": stack.url, "FINEFLOW_PUBLISHABLE_KEY": stack.publishable_key}
    # From standard input, so that the package is looked for where the stack keeps it.
    process = await asyncio.create_subprocess_exec(
        node_binary(), "--input-type=module", "-", ROOT / "examples" / "handbook.md",
        cwd=NODE_DIR, env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(EXAMPLE.read_bytes()), 120)
    lines = output.decode().strip().splitlines()
    assert process.returncode == 0, lines
    assert lines[-2].startswith("completed 100 %")
    assert lines[-1] == "The foghorn is tested on the first Friday of each month at 11:00."


def test_the_readme_shows_lines_of_the_example() -> None:
    (block,) = re.findall(r"```js\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block in EXAMPLE.read_text()


def test_every_function_is_described() -> None:
    described = set(
        re.findall(r"^\| `([a-z-]+)` \|", (ROOT / "docs" / "functions.md").read_text(), re.MULTILINE)
    )
    assert described == set(FUNCTIONS)


def test_every_command_that_is_described_exists() -> None:
    text = (ROOT / "docs" / "command-line.md").read_text() + (ROOT / "README.md").read_text()
    help_text = subprocess.run(
        [sys.executable, "-m", "cli.main", "--help"], capture_output=True, text=True, check=True
    )
    for command in set(re.findall(r"(?:`|bin/)fineflow ([a-z]+)", text)):
        assert re.search(rf"\b{command}\b", help_text.stdout), command


def test_every_variable_and_action_of_the_keys_page_exists() -> None:
    page = (ROOT / "docs" / "keys.md").read_text()
    names = {str(field.validation_alias or name).upper() for name, field in Settings.model_fields.items()}
    variables = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)\b", page))
    assert variables >= {"API_KEY_ENCRYPTION_SECRET", "API_KEY_ENCRYPTION_SECRETS_OLD"}
    assert variables <= names
    described = set(re.findall(r"^\| `([a-z]+)` \|", page, re.MULTILINE))
    assert described == set(get_args(ManageApiKeys.model_fields["action"].annotation))


def test_every_rule_of_checking_is_told() -> None:
    page = (ROOT / "docs" / "checking.md").read_text()
    told = [re.findall(r"`([a-z_0-9]+)`", row) for row in re.findall(r"^\| (`[^|]+) \|", page, re.MULTILINE)]
    rules = {rule for row in told for rule in row}
    assert len(rules) == sum(map(len, told)), "a rule is told twice"
    assert rules == _rules_of_the_code()


def _rules_of_the_code() -> set[str]:
    """First arguments of what makes a finding, and the rules of tables; those of a split are told with it."""
    makers = {
        "Finding",
        "NotRead",
        "Problem",
        "_found",
        "found",
        "wrong",
        "error",
        "warning",
        "tell",
        "about",
    }
    rules = {rule for _, rule, *_ in file_rows._REFUSED} | {rule for rule, *_ in sensitive._RULES}
    rules.add(parquet_rows.BROKEN)
    shared = ROOT / "shared"
    for path in (*(shared / "datasets").glob("*.py"), *(shared / "imports").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", None))
                rule_at = 1 if name == "about" else 0  # behind its mark
                said = node.args[rule_at] if name in makers and node.args else None
            else:
                is_remark = isinstance(node, ast.Yield) and path.name == "shapes.py"
                said = node.value.elts[0] if is_remark and isinstance(node.value, ast.Tuple) else None
            # What is logged has blanks in it.
            if isinstance(said, ast.Constant) and re.fullmatch(r"[a-z_0-9]+", str(said.value)):
                rules.add(str(said.value))
    return rules


def test_every_link_leads_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
