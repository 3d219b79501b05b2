"""The commands one after another on the embedded stack, as a script would call them."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from devstack.up import Stack
from tests.fakes.openai_compatible import FakeChatService

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 120


@dataclass(frozen=True)
class Ended:
    """How a command ended: what it printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout; the command succeeded."""
        assert self.code == 0, f"{self.out}\n{self.err}"
        return json.loads(self.out)


@dataclass(frozen=True)
class Shell:
    """Runs `fineflow` in processes of their own, all with one data directory."""

    environment: dict[str, str]

    async def __call__(self, *arguments: str, stdin: str = "") -> Ended:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli.main", *arguments),
            cwd=ROOT,
            env=self.environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), SECONDS)
        return Ended(process.returncode or 0, out.decode(), err.decode())


@pytest.fixture(scope="module")
async def fineflow(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A new user who is logged in by a saved session."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("FINEFLOW_", "SUPABASE_"))
    }
    shell = Shell(
        kept
        | {
            "FINEFLOW_URL": stack.url,
            "FINEFLOW_PUBLISHABLE_KEY": stack.publishable_key,
            "FINEFLOW_DATA_DIR": str(tmp_path_factory.mktemp("data")),
        }
    )
    email = f"cli-{uuid4()}@test.local"
    signed_up = await shell("signup", email, "--json", stdin="a-long-password\n")
    assert signed_up.document["email"] == email
    return shell


async def test_templates_of_a_project(fineflow: Shell) -> None:
    saved = await fineflow("templates", "save", "ours", "--method", "qlora", "--set", "loraR=8", "--json")
    assert (saved.document["method"], saved.document["training_config"]) == ("qlora", {"lora_r": 8})
    changed = await fineflow("templates", "save", "ours", "--set", "epochs=2", "--json")
    assert (changed.document["id"], changed.document["method"]) == (saved.document["id"], "lora")
    names = [row["name"] for row in (await fineflow("templates", "list", "--json")).document]
    assert (len(names), names[-1]) == (7, "ours")
    assert (await fineflow("templates", "show", "ours", "--json")).document["training_config"] == {
        "epochs": 2
    }
    wrong = await fineflow("templates", "save", "ours", "--set", "epochs=99")
    assert (wrong.code, "epochs: Input should be less than" in wrong.err) == (2, True)
    assert (await fineflow("templates", "delete", "balanced")).code == 4
    assert (await fineflow("templates", "delete", "ours")).code == 0
    assert (await fineflow("templates", "show", "ours")).code == 2


async def test_from_a_document_to_an_answer(fineflow: Shell, tmp_path: Path) -> None:
    names = [
        "Alma",
        "Bruno",
        "Clea",
        "Dorian",
        "Edda",
        "Falk",
        "Gesa",
        "Hanno",
        "Ilka",
        "Jorin",
        "Kaja",
        "Lenz",
    ]
    facts = [
        f"The keeper {name} paints the {number + 3} doors of the harbour in May."
        for number, name in enumerate(names)
    ]
    page = tmp_path / "harbour notes.md"
    page.write_text("# The harbour\n\n" + "\n".join(facts))

    [document] = (await fineflow("docs", "add", str(page), "--json")).document
    assert (document["name"], document["status"]) == ("harbour notes.md", "ready")
    assert "harbour notes.md" in (await fineflow("docs", "list")).out
    shown = (await fineflow("docs", "show", "harbour notes.md")).out
    assert all(factor in shown for factor in ("length", "vocabulary", "structure", "coherence"))

    foreseen = (await fineflow("datasets", "estimate", "--generator", "extractive", "--json")).document
    assert foreseen["estimate"]["costUsd"] == {"low": 0, "high": 0}
    created = await fineflow("datasets", "create", "harbour", "--pairs-per-chunk", "10", "--json")
    assert created.document["pair_count"] >= 10
    assert "100 %" in created.err, "progress is told on stderr"
    assert (await fineflow("datasets", "stop", "harbour")).code == 2  # it is ready
    assert (await fineflow("datasets", "validate", "harbour", "--json")).document["valid"] is True
    seen = await fineflow("datasets", "xray", "harbour", "--base-model", "fineflow/tiny", "--rows", "1")
    assert "[[" in seen.out, "what is trained stands in brackets"
    assert "Can be trained" in seen.out
    looked = await fineflow("datasets", "validate", "harbour", "--base-model", "fineflow/tiny", "--json")
    assert looked.document["xray"]["usedRows"] == created.document["pair_count"]
    assert (await fineflow("datasets", "xray", "harbour", "--base-model", "gpt-4.1-mini")).code == 2
    exported = tmp_path / "out.jsonl"
    await fineflow("datasets", "export", "harbour", "-o", str(exported))
    assert len(exported.read_text().splitlines()) == created.document["pair_count"]
    assert (await fineflow("datasets", "export", "harbour", "-o", str(exported))).code == 2
    sheet = tmp_path / "sheet" / "out.csv"
    sheet.parent.mkdir()
    wanted = ("--format", "alpaca", "--container", "csv", "--split", "train", "--provenance", "--card")
    await fineflow("datasets", "export", "harbour", *wanted, "-o", str(sheet))
    assert "harbour notes.md" in sheet.read_text()
    assert 'path: "out.csv"' in (sheet.parent / "README.md").read_text()
    assert (
        await fineflow("datasets", "export", "harbour", "--approved", "-o", str(tmp_path / "a"))
    ).code == 2

    estimate = (await fineflow("estimate", "harbour", "--epochs", "2", "--json")).document
    assert (estimate["costUsd"], estimate["trainingConfig"]["epochs"]) == (0, 2)
    assert estimate["trainedTokens"] == looked.document["xray"]["trainedTokens"]
    limits = ("--base-model", "fineflow/tiny", "--deadline", "30m", "--save", "advised")
    advised = await fineflow("advise", "harbour", *limits)
    assert "Nothing was started" in advised.out
    assert "fineflow train harbour --template advised --provider local" in advised.out
    kept = (await fineflow("templates", "show", "advised", "--json")).document
    assert (kept["method"], kept["base_model"]) == ("full", "fineflow/tiny")
    assert kept["training_config"]["epochs"] > 3
    assert (await fineflow("advise", "harbour", "--deadline", "soon")).code == 2
    job = (await fineflow("train", "harbour", "--epochs", "2", "--follow", "--json")).document
    assert (job["status"], job["progress_percent"]) == ("completed", 100)
    shown = (await fineflow("jobs", "show", job["id"][:8], "--json")).document
    assert [event["data"]["to"] for event in shown["events"] if event["type"] == "status"][-1] == "completed"
    assert (await fineflow("jobs", "--follow", "--json")).document["id"] == job["id"]
    assert (await fineflow("jobs", "cancel", "last")).code == 2, "it has ended already"

    [model] = (await fineflow("models", "list", "--json")).document
    assert (model["name"], model["version"], model["job_id"]) == ("harbour", 1, job["id"])
    deployed = (await fineflow("deploy", "harbour:1", "--as", "porter", "--json")).document
    assert deployed["modelId"] == model["id"]
    assert "porter" in (await fineflow("models", "list")).out
    answer = (
        await fineflow("chat", "porter", "Who paints the doors?", "--max-tokens", "8", "--json")
    ).document
    assert answer["fineflow"]["model_id"] == model["id"]


async def test_a_dataset_is_split_and_a_document_taken_back(fineflow: Shell, tmp_path: Path) -> None:
    for name in ("quay", "mole"):
        page = tmp_path / f"{name}.md"
        page.write_text("\n".join(f"# {name} {n}\n\nThe {name} {n} was built by Ada {n}." for n in range(8)))
    await fineflow("docs", "add", str(tmp_path / "quay.md"), str(tmp_path / "mole.md"))
    made = ("datasets", "create", "piers", "--doc", "quay.md", "--doc", "mole.md", "--pairs-per-chunk", "10")
    dataset = (await fineflow(*made, "--json")).document
    shares = ("--train", "0.5", "--test", "0.5", "--seed", "7")
    split = (await fineflow("datasets", "split", "piers", *shares, "--json")).document
    assert (split["seed"], sum(split["counts"].values())) == (7, dataset["pair_count"])
    assert min(split["counts"]["train"], split["counts"]["test"]) > 0
    assert "No leaks." in (await fineflow("datasets", "split", "piers", "--check")).out
    other = await fineflow("datasets", "split", "piers", "--seed", "8")
    assert (other.code, "--restart" in other.err) == (2, True)

    shown = await fineflow("docs", "withdraw", "quay.md", "--reason", "The quay is gone.")
    assert "The quay is gone." in shown.out
    reach = (await fineflow("docs", "reach", "quay.md", "--json")).document
    assert reach["document"]["status"] == "withdrawn"
    assert [(d["name"], d["usable_pair_count"]) for d in reach["datasets"]] == [("piers", 0)]
    restored = (await fineflow("docs", "restore", "quay.md", "--json")).document
    assert restored["datasets"][0]["usable_pair_count"] == len(restored["pairs"])
    assert (await fineflow("docs", "reach", str(uuid4()))).code == 2


async def test_a_project_has_prompts_of_its_own(fineflow: Shell, tmp_path: Path) -> None:
    own = tmp_path / "rules.md"
    own.write_text("Ask well. $task $count $shape")
    refused = await fineflow("prompts", "set", "rules", str(own))
    assert (refused.code, "It lacks $canary" in refused.err) == (2, True)
    for text in ("Ask well. $task $count $shape $canary", "Ask better. $task $count $shape $canary"):
        assert (await fineflow("prompts", "set", "rules", "-", stdin=text)).code == 0
    assert (await fineflow("prompts", "show", "rules")).out.startswith("Ask better.")
    assert (await fineflow("prompts", "show", "rules", "--default")).out.startswith("You write training")
    whose = {row["name"]: row["own"] for row in (await fineflow("prompts", "list", "--json")).document}
    assert (whose["rules"], whose["judge"]) == (True, False)
    assert (await fineflow("prompts", "reset", "rules", "--json")).document["removed"] is True
    assert (await fineflow("prompts", "show", "poem")).code == 2


async def test_what_does_not_exist_is_exit_code_2(fineflow: Shell) -> None:
    ended = await asyncio.gather(
        fineflow("datasets", "show", "nothing"),
        fineflow("datasets", "show", str(uuid4())),
        fineflow("jobs", "show", str(uuid4())),
        fineflow("deploy", "nothing:3", "--as", "x"),
        fineflow("chat", "nobody", "hello"),
        fineflow("docs", "list", "--project", "elsewhere"),
    )
    for one in ended:
        assert one.code == 2
        assert one.err.startswith("Error: ")
        assert "Traceback" not in one.err


async def test_a_key_is_checked_stored_and_never_shown(fineflow: Shell) -> None:
    with FakeChatService(keys=("sk-very-secret-9876",)) as service:
        place = ("openai_compatible", "--base-url", service.base_url)
        refused = await fineflow("keys", "set", *place, stdin="sk-very-wrong-5432\n")
        assert (refused.code, refused.out) == (2, "")
        assert "401" in refused.err
        ended = [
            await fineflow("keys", "set", *place, "--json", stdin="sk-very-secret-9876\n"),
            await fineflow("keys", "status", "--json"),
            await fineflow("keys", "validate", "openai_compatible", "--json"),
        ]
        await fineflow("keys", "set", *place, "--no-check", stdin="sk-very-wrong-5432\n")
        invalid = await fineflow("keys", "validate", "openai_compatible")
        assert (invalid.code, "401" in invalid.out) == (1, True)
    for one in ended:
        stored = {key["provider"]: key for key in one.document["keys"]}["openai_compatible"]
        assert (stored["set"], stored["lastFour"], stored["invalidAt"]) == (True, "9876", None)
    for one in (refused, invalid, *ended):
        assert "very-secret" not in one.out + one.err
        assert "very-wrong" not in one.out + one.err

    away = await fineflow("keys", "validate", "openai_compatible")
    assert "Try again" in away.err
    assert (await fineflow("keys", "delete", "openai_compatible")).code == 0
    assert (await fineflow("keys", "delete", "openai_compatible")).code == 2


async def test_logging_out_and_in_again(fineflow: Shell) -> None:
    who = (await fineflow("whoami", "--json")).document
    assert (await fineflow("logout")).code == 0
    assert (await fineflow("docs", "list")).code == 4
    assert (await fineflow("login", who["email"], stdin="not-the-password\n")).code == 4
    assert (await fineflow("login", who["email"], stdin="a-long-password\n")).code == 0
    assert (await fineflow("whoami", "--json")).document == who
