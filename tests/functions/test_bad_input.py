"""Each bad call: a clear `{error: {code, message, details}}` with the right status, and no row changed."""

import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import jwt
import psycopg
import pytest
from psycopg.rows import dict_row

from devstack.up import Stack
from tests.functions.world import World, make_world

NOWHERE = "11111111-1111-4111-8111-111111111111"


@pytest.fixture(scope="session")
async def world(stack: Stack) -> AsyncIterator[World]:
    async with make_world(stack) as made:
        yield made


def snapshot(world: World) -> dict[str, Any]:
    """Every row of every table that a call could change, but of other projects: those go on by themselves."""
    tables = (
        "projects", "documents", "training_datasets", "dataset_chunks", "training_pairs", "training_jobs",
        "fine_tuned_models", "deployments", "deployment_history", "user_api_keys",
    )  # fmt: skip
    with psycopg.connect(world.stack.database_url, row_factory=dict_row) as database:
        return {
            table: database.execute(
                f"select t.*, t.ctid from public.{table} t"
                " where coalesce(to_jsonb(t) ->> 'project_id', %(project)s) = %(project)s order by ctid",
                {"project": world.project},
            ).fetchall()
            for table in tables
        }


async def refused(
    world: World, name: str, body: Any, *, token: str | None = None, **headers: str
) -> tuple[int, str]:
    """Status and code of a call that must be refused and must change nothing."""
    before = snapshot(world)
    authorization = {"authorization": f"Bearer {token}"} if token else {}
    response = await world.http.post(f"/functions/v1/{name}", json=body, headers=authorization | headers)
    assert snapshot(world) == before, f"{name} changed something"
    error = response.json()["error"]
    assert set(error) == {"code", "message", "details"}
    assert (
        error["message"].endswith((".", "!", "?"))
        or ":" in error["message"]
        or error["code"] == "invalid_request"
    )
    return response.status_code, error["code"]


async def test_unknown_dataset(world: World) -> None:
    for name in ("start-training", "estimate-training", "validate-dataset", "export-dataset"):
        answer = await refused(world, name, {"datasetId": NOWHERE}, token=world.token)
        assert answer == (404, "dataset_not_found"), name


async def test_dataset_of_a_foreign_project(world: World) -> None:
    for name in ("start-training", "estimate-training", "validate-dataset", "export-dataset"):
        answer = await refused(world, name, {"datasetId": world.dataset}, token=world.stranger_token)
        assert answer == (404, "dataset_not_found"), name


async def test_foreign_project(world: World) -> None:
    body = {"projectId": world.project, "datasetName": "x"}
    assert await refused(world, "generate-dataset", body, token=world.stranger_token) == (
        404,
        "project_not_found",
    )


async def test_a_viewer_starts_nothing(world: World) -> None:
    token = world.viewer_token
    assert await refused(world, "start-training", {"datasetId": world.dataset}, token=token) == (
        403,
        "forbidden",
    )
    body = {"projectId": world.project, "datasetName": "x"}
    assert await refused(world, "generate-dataset", body, token=token) == (403, "forbidden")


async def test_dataset_not_ready(world: World) -> None:
    answer = await refused(
        world, "start-training", {"datasetId": world.dataset_generating}, token=world.token
    )
    assert answer == (409, "dataset_not_ready")


async def test_under_ten_pairs(world: World) -> None:
    answer = await refused(world, "start-training", {"datasetId": world.dataset_small}, token=world.token)
    assert answer == (422, "dataset_too_small")


async def test_missing_key(world: World) -> None:
    body = {"projectId": world.project, "datasetName": "x", "generator": "gemini"}
    assert await refused(world, "generate-dataset", body, token=world.token) == (422, "api_key_missing")


async def test_missing_wrong_and_expired_token(world: World) -> None:
    body = {"datasetId": world.dataset}
    now = int(time.time())
    claims = {"sub": str(uuid4()), "role": "authenticated", "aud": "authenticated", "exp": now + 60}

    def sign(
        changed: dict[str, Any], secret: str | None = world.stack.jwt_secret, algorithm: str = "HS256"
    ) -> str:
        return jwt.encode(claims | changed, secret, algorithm)

    cases = {
        "none at all": (None, "missing_token"),
        "not a token": ("garbage", "invalid_token"),
        "another secret": (sign({}, "x" * 40), "invalid_token"),
        "expired": (sign({"exp": now - 1}), "token_expired"),
        "no signature": (sign({}, None, "none"), "invalid_token"),
        "a storage address": (sign({"aud": "storage"}), "invalid_token"),
        "the role of the service": (sign({"role": "service_role"}), "invalid_token"),
        "no user": (sign({"sub": "root"}), "invalid_token"),
        "the publishable key": (world.stack.publishable_key, "invalid_token"),
    }
    for case, (token, code) in cases.items():
        assert await refused(world, "start-training", body, token=token) == (401, code), case


async def test_wrong_secret_of_the_service(world: World) -> None:
    answer = await refused(world, "poll-training", {}, **{"x-fineflow-secret": "guessed-secret-123"})
    assert answer == (401, "invalid_token")


async def test_a_user_token_opens_no_report(world: World) -> None:
    body = {"attempt": 1, "runId": NOWHERE, "reports": [{"seq": 1, "kind": "claim"}]}
    assert await refused(world, "report-training", body, token=world.token) == (401, "invalid_token")


async def test_unknown_field(world: World) -> None:
    body = {"datasetId": world.dataset, "learningRate": 1}
    assert await refused(world, "start-training", body, token=world.token) == (422, "unknown_field")
    body = {"datasetId": world.dataset, "trainingConfig": {"outputDir": "/etc"}}
    assert await refused(world, "start-training", body, token=world.token) == (422, "unknown_field")


@pytest.mark.parametrize(
    "changed",
    [
        {"trainingConfig": {"epochs": 51}},
        {"trainingConfig": {"epochs": 0}},
        {"trainingConfig": {"learningRate": "NaN"}},
        {"baseModel": "../../etc/passwd"},
        {"baseModel": "a" * 1002},
        {"method": "magic"},
        {"timeoutSeconds": 1},
        {"datasetId": "not-a-uuid"},
        {"modelName": ""},
    ],
    ids=lambda changed: str(changed)[:40],
)
async def test_values_out_of_range(world: World, changed: dict[str, Any]) -> None:
    answer = await refused(world, "start-training", {"datasetId": world.dataset} | changed, token=world.token)
    assert answer == (422, "invalid_request")


async def test_a_provider_that_is_not_here(world: World) -> None:
    body = {"datasetId": world.dataset, "provider": "nowhere"}
    assert await refused(world, "start-training", body, token=world.token) == (422, "provider_not_available")


async def test_a_provider_that_cannot_train_offers_one_that_can(world: World) -> None:
    body = {"datasetId": world.dataset, "provider": "anthropic", "baseModel": "claude-opus-4"}
    answer = await world.call("start-training", body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "provider_has_no_fine_tuning")
    assert answer.json()["error"]["details"]["alternative"]["provider"] == "local"


async def test_body_over_the_limit(world: World) -> None:
    body = {"datasetId": world.dataset, "modelName": "x" * 1_100_000}
    assert await refused(world, "start-training", body, token=world.token) == (413, "payload_too_large")


async def test_a_body_that_is_no_json(world: World) -> None:
    for content in (b"", b"{", b"[]", b"\xff\xfe", b"nul", b'{"datasetId": "\\u0000"}', b"[" * 100_000):
        response = await world.http.post(
            "/functions/v1/start-training",
            content=content,
            headers={"authorization": f"Bearer {world.token}", "content-type": "application/json"},
        )
        assert response.status_code == 422, content[:20]
        assert response.json()["error"]["code"] == "invalid_request", content[:20]


async def test_unknown_function(world: World) -> None:
    assert await refused(world, "make-coffee", {}, token=world.token) == (404, "function_not_found")


async def test_double_click_is_one_job_and_other_parameters_are_refused(world: World) -> None:
    dataset = await world.new_dataset(pairs=10)
    key = str(uuid4())
    body = {"datasetId": dataset, "idempotencyKey": key, "trainingConfig": {"epochs": 1}}
    first = await world.call("start-training", body)
    again = await world.call("start-training", body)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["jobId"] == again.json()["jobId"]
    assert (first.json()["created"], again.json()["created"]) == (True, False)
    other = await world.call("start-training", body | {"trainingConfig": {"epochs": 2}})
    assert other.status_code == 409
    assert other.json()["error"]["code"] == "idempotency_key_reused"
    assert other.json()["error"]["details"]["jobId"] == first.json()["jobId"]
    await world.call("cancel-training", {"jobId": first.json()["jobId"]})


async def test_a_stranger_cancels_polls_and_deploys_nothing(world: World) -> None:
    token = world.stranger_token
    assert await refused(world, "cancel-training", {"jobId": NOWHERE}, token=token) == (404, "job_not_found")
    assert await refused(world, "poll-training", {"jobId": NOWHERE}, token=token) == (404, "job_not_found")
    assert await refused(world, "poll-training", {}, token=token) == (422, "invalid_request")
    body = {"action": "deploy", "modelId": NOWHERE, "deploymentName": "live"}
    assert await refused(world, "manage-models", body, token=token) == (404, "model_not_found")
    chat = {"model": "nobody", "messages": [{"role": "user", "content": "hi"}]}
    assert await refused(world, "chat", chat, token=token) == (404, "deployment_not_found")


async def test_preflight_allows_what_supabase_js_sends(world: World) -> None:
    response = await world.http.options(
        "/functions/v1/start-training",
        headers={
            "origin": "https://app.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization, x-client-info, apikey, content-type,"
            " x-retry-count, traceparent, tracestate, baggage",
        },
    )
    assert response.status_code == httpx.codes.OK
    assert response.headers["access-control-allow-origin"] == "*"


async def test_errors_carry_cors_headers(world: World) -> None:
    response = await world.http.post(
        "/functions/v1/start-training", json={}, headers={"origin": "https://app.example"}
    )
    assert response.status_code == httpx.codes.UNAUTHORIZED
    assert response.headers["access-control-allow-origin"] == "*"
