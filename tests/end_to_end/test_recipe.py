"""From a model to its recipe and back to the same model, by the command line, on the embedded stack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from devstack.up import Stack
from tests.cli.test_story import Shell, fineflow
from tests.modal_app.trainers import answers_swapped, facts

__all__ = ["fineflow"]  # the fixture
TRAIN = ("--follow", "--json")


@pytest.fixture(scope="module")
async def recipe(fineflow: Shell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe of the model `harbour:1`, made of the dataset `harbour`."""
    home = tmp_path_factory.mktemp("recipes")
    rows = home / "harbour.jsonl"
    rows.write_text("".join(json.dumps({"prompt": q, "completion": a}) + "\n" for q, a in facts(12)))
    assert (await fineflow("datasets", "import", str(rows), "--name", "harbour")).code == 0
    settings = ("--epochs", "2", "--set", "seed=7", "--method", "lora")
    assert (await fineflow("train", "harbour", *settings, *TRAIN)).code == 0
    file = home / "recipe.json"
    assert (await fineflow("models", "recipe", "harbour:1", "-o", str(file))).code == 0
    return file


def weights(stack: Stack, model: dict[str, Any]) -> bytes:
    directory = Path(model["artifact_path"])
    assert directory.is_relative_to(stack.data_dir.resolve())
    return (directory / "model.safetensors").read_bytes()


async def test_a_recipe_makes_the_same_weights_again(fineflow: Shell, stack: Stack, recipe: Path) -> None:
    again = await fineflow("train", "harbour", "--recipe", str(recipe), *TRAIN)
    assert again.code == 0, again.err
    assert "Not as in the recipe" not in again.err
    first, second = [
        (await fineflow("models", "show", f"harbour:{version}", "--json")).document for version in (1, 2)
    ]
    assert first["id"] != second["id"]
    assert first["recipe"] == second["recipe"] == json.loads(recipe.read_text())
    assert weights(stack, first) == weights(stack, second)


async def test_preferences_are_trained_on_top_of_a_model_by_its_name(
    fineflow: Shell, recipe: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "better.jsonl"
    better = zip(facts(12), answers_swapped(facts(12)), strict=True)
    lines = [{"prompt": q, "chosen": a, "rejected": other} for (q, a), (_, other) in better]
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert (await fineflow("datasets", "import", str(rows), "--name", "better")).code == 0
    estimate = await fineflow("estimate", "harbour", "--base-model", "harbour:1", "--json")
    (first,) = [row for row in (await fineflow("models", "list", "--json")).document if row["version"] == 1]
    assert estimate.document["baseModel"] == f"model:{first['id']}"
    settings = ("--template", "preference-after-sft", "--base-model", "harbour:1")
    assert (await fineflow("train", "better", *settings, *TRAIN)).code == 0
    child = (await fineflow("models", "show", "better:1", "--json")).document
    assert (child["parent_model_id"], child["base_model"]) == (first["id"], f"model:{first['id']}")
    assert (child["method"], child["root_base_model"]) == ("dpo", "fineflow/tiny")
    assert child["template_fingerprint"] == first["template_fingerprint"]
    refused = await fineflow("train", "harbour", "--base-model", "model:nobody", "--json")
    assert (refused.code, json.loads(refused.out)["error"]["code"]) == (2, "not_found")


async def test_other_rows_are_refused_with_both_hashes(fineflow: Shell, recipe: Path, tmp_path: Path) -> None:
    rows = tmp_path / "other.jsonl"
    rows.write_text("".join(json.dumps({"prompt": q, "completion": a}) + "\n" for q, a in facts(13)))
    assert (await fineflow("datasets", "import", str(rows), "--name", "other")).code == 0
    refused = await fineflow("train", "other", "--recipe", str(recipe), "--json")
    error = json.loads(refused.out)["error"]
    assert (refused.code, error["code"]) == (2, "dataset_changed")
    assert error["details"]["wantedSha256"] == json.loads(recipe.read_text())["dataset_sha256"]
    assert error["details"]["foundSha256"] in error["message"]


async def test_libraries_that_differ_are_told_before_it_starts(
    fineflow: Shell, recipe: Path, tmp_path: Path
) -> None:
    old = json.loads(recipe.read_text())
    old["libraries"]["trl"] = "0.9.0"
    (tmp_path / "old.json").write_text(json.dumps(old))
    started = await fineflow("train", "harbour", "--recipe", str(tmp_path / "old.json"), "--json")
    assert started.code == 0
    assert "trl was 0.9.0, here it is" in started.err


async def test_a_recipe_leaves_nothing_to_set(fineflow: Shell, recipe: Path, tmp_path: Path) -> None:
    refused = await fineflow("train", "harbour", "--recipe", str(recipe), "--epochs", "3")
    assert (refused.code, "A recipe says how to train" in refused.err) == (2, True)
    (tmp_path / "none.json").write_text("{}")
    refused = await fineflow("train", "harbour", "--recipe", str(tmp_path / "none.json"))
    assert (refused.code, "none.json is no recipe: base_model" in refused.err) == (2, True)
    assert (await fineflow("train", "harbour", "--recipe", str(tmp_path / "missing"))).code == 2


async def test_the_model_is_exported_where_its_weights_lie(
    fineflow: Shell, recipe: Path, tmp_path: Path
) -> None:
    output = tmp_path / "harbour"
    asked = (
        "models",
        "export",
        "harbour:1",
        "--format",
        "ollama",
        "--quantization",
        "q8_0",
        "-o",
        str(output),
    )
    done = await fineflow(*asked, "--json")
    assert {file["name"] for file in done.document["files"]} == {"Modelfile", "README.md", "model.gguf"}
    assert "harbour:1, " in done.err, "a bar shows how far it is"
    card = (output / "README.md").read_text()
    assert "# harbour:1" in card
    assert "| Data | harbour; its card:" in card
    refused = await fineflow(*asked, "--json")
    assert (refused.code, json.loads(refused.out)["error"]["code"]) == (1, "output_exists")
