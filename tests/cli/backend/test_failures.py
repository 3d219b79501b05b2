"""Each client library wraps errors in its own way; a user sees one sentence and one exit code."""

import pytest
from pydantic import SecretStr

from cli.backend.client import anonymous_client
from cli.backend.connection import Connection, Login
from cli.backend.failures import explain
from cli.exits import CliError, ExitCode


async def failure(connection: Connection, call) -> CliError:
    async with anonymous_client(connection) as client:
        try:
            await call(client)
        except Exception as error:
            explained = explain(error)
            assert explained is not None
            return explained
    raise AssertionError("the call succeeded")


def select(table: str):
    return lambda client: client.rows(client.supabase.table(table).select("*"))


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (401, "token_expired", ExitCode.FORBIDDEN),
        (403, "forbidden", ExitCode.FORBIDDEN),
        (404, "dataset_not_found", ExitCode.USAGE),
        (409, "dataset_not_ready", ExitCode.USAGE),
        (422, "unknown_field", ExitCode.USAGE),
        (429, "rate_limited", ExitCode.UNREACHABLE),
        (500, "internal", ExitCode.FAILED),
        (503, "provider_unavailable", ExitCode.UNREACHABLE),
    ],
)
async def test_a_function_error_keeps_its_sentence(loopback, connection, status, code, exit_code) -> None:
    body = {"error": {"code": code, "message": "A sentence.", "details": {"minimum": 10}}}
    loopback.answer("POST", "/functions/v1/start-training", status, body)
    error = await failure(connection, lambda client: client.invoke("start-training", {}))
    assert (error.message, error.code, error.exit_code) == ("A sentence.", code, exit_code)
    assert error.details == {"minimum": 10}


async def test_a_silent_functions_server_counts_as_unreachable(loopback, connection) -> None:
    loopback.answer("POST", "/functions/v1/chat", 503, {"message": "function server is not running"})
    error = await failure(connection, lambda client: client.invoke("chat", {}))
    assert error.exit_code == ExitCode.UNREACHABLE


async def test_a_function_error_that_is_no_json_is_told_as_it_is(loopback, connection) -> None:
    loopback.answer("POST", "/functions/v1/chat", 400, b"what is this")
    error = await failure(connection, lambda client: client.invoke("chat", {}))
    assert (error.message, error.exit_code) == ("what is this", ExitCode.USAGE)


async def test_a_database_refusal_for_rights_is_forbidden(loopback, connection) -> None:
    body = {
        "code": "42501",
        "message": "permission denied for table documents",
        "hint": None,
        "details": None,
    }
    loopback.answer("GET", "/rest/v1/documents", 403, body)
    error = await failure(
        connection, lambda client: client.rows(client.supabase.table("documents").select("*"))
    )
    assert error.exit_code == ExitCode.FORBIDDEN
    assert "not allowed" in error.message


async def test_a_wrong_password_is_forbidden_and_not_repeated(loopback, connection) -> None:
    body = {"code": "invalid_credentials", "msg": "Invalid login credentials"}
    loopback.answer("POST", "/auth/v1/token", 400, body)
    login = Login("a@example.test", SecretStr("the-wrong-one"))
    error = await failure(connection, lambda client: client.sign_in(login))
    assert error.exit_code == ExitCode.FORBIDDEN
    assert "the-wrong-one" not in str(error.body())


async def test_nobody_listening_is_unreachable() -> None:
    nobody = Connection("http://127.0.0.1:9", "sb_publishable_test")
    error = await failure(nobody, lambda client: client.invoke("chat", {}))
    assert error.exit_code == ExitCode.UNREACHABLE
    assert "make up" in str(error.hint)


def test_a_bug_is_not_explained_away() -> None:
    assert explain(KeyError("oops")) is None
