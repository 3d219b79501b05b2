"""The inference server over HTTP."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.training.catalog import TINY

QUESTION = [{"role": "user", "content": "Where is it?"}]


def _ask(client: httpx.Client, **body: Any) -> httpx.Response:
    return client.post(
        "/v1/chat/completions", json={"model": TINY, "messages": QUESTION, "max_tokens": 8} | body
    )


def _code(response: httpx.Response) -> str:
    error = response.json()["error"]
    assert set(error) == {"code", "message", "details"}
    return str(error["code"])


def test_a_completion_has_openais_shape(client: httpx.Client) -> None:
    body = _ask(client).json()
    assert body["object"] == "chat.completion"
    assert body["model"] == TINY
    assert body["choices"][0]["message"]["role"] == "assistant"
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 8
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + 8


def test_greedy_and_seeded_answers_repeat(client: httpx.Client) -> None:
    def said(**body: Any) -> str:
        return str(_ask(client, **body).json()["choices"][0]["message"]["content"])

    assert said() == said()
    assert said(temperature=1, seed=7) == said(temperature=1, seed=7)
    assert said(temperature=1, seed=7) != said(temperature=1, seed=8)


@pytest.mark.parametrize("header", [None, "", "Bearer wrong", "Basic inference-token", "Bearer"])
def test_a_caller_without_the_token_is_refused(client: httpx.Client, header: str | None) -> None:
    headers = {} if header is None else {"authorization": header}
    with httpx.Client(base_url=client.base_url, headers=headers, trust_env=False) as stranger:
        for path in ("/v1/chat/completions", "/v1/warm"):
            refused = stranger.post(path, json={})
            assert refused.status_code == 401
            assert _code(refused) == "unauthorized"
        assert stranger.get("/health").status_code == 200


def test_no_path_outside_the_data_directory_is_read(
    client: httpx.Client, data_dir: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "model"
    outside.mkdir()
    (outside / "config.json").write_text("{}")
    link = data_dir / "link"
    link.symlink_to(outside)
    climbing = data_dir / ".." / outside.relative_to(data_dir.parent)
    for path in (outside, link, climbing, data_dir / "none"):
        refused = _ask(client, model=str(path))
        assert refused.status_code == 404
        assert _code(refused) == "model_not_found"


@pytest.mark.parametrize(
    "body",
    [
        {"stream": True},
        {"max_tokens": 4096},
        {"temperature": -1},
        {"messages": []},
        {"messages": [{"role": "robot", "content": "hello"}]},
        {"model": "../../etc"},
    ],
)
def test_a_bad_body_is_refused(client: httpx.Client, body: dict[str, Any]) -> None:
    refused = _ask(client, **body)
    assert refused.status_code == 422
    assert _code(refused) == "invalid_request"


def test_too_long_a_prompt_is_refused(client: httpx.Client) -> None:
    refused = _ask(client, messages=[{"role": "user", "content": "again " * 2000}])
    assert refused.status_code == 422
    assert _code(refused) == "context_length_exceeded"


def test_a_body_over_the_limit_is_refused(client: httpx.Client) -> None:
    refused = _ask(client, messages=[{"role": "user", "content": "x" * 5_000_000}])
    assert refused.status_code == 413


def test_warming_answers_at_once(client: httpx.Client) -> None:
    assert client.post("/v1/warm", json={}).status_code == 202
    assert client.post("/v1/warm", json={"model": TINY}).status_code == 202
    assert _code(client.get("/v1/models")) == "http_404"


def test_it_does_not_start_without_a_token(data_dir: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "modal_app.serve", "--port", "1"],
        env={"FINEFLOW_DATA_DIR": str(data_dir)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "FINEFLOW_INFERENCE_TOKEN" in done.stderr
