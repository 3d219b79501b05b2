"""`models bases`, which asks no server."""

import json

import pytest

from cli.main import run


@pytest.mark.usefixtures("nowhere")
def test_the_memory_of_twelve_base_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "bases", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 12
    for row in rows:
        memory = row["memoryBytes"]
        assert memory["qlora"] < memory["lora"] < memory["full"]
        assert sum(row["memoryParts"]["lora"].values()) == pytest.approx(memory["lora"], abs=8)
    assert run(["models", "bases"]) == 0
    assert "Qwen/Qwen3-8B" in capsys.readouterr().out
    assert run(["models", "bases", "--batch-size", "0"]) == 2
