"""What Lite gets wrong or leaves open by default; each test fails when its fix is taken out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from devstack.up import Stack
from tests.devstack.users import User, client, token


@pytest.fixture(scope="module")
def user(lite: Stack) -> Iterator[User]:
    made = User.new(lite)
    with made.http:
        yield made


@pytest.fixture
def database(lite: Stack) -> Iterator[psycopg.Connection]:
    with psycopg.connect(lite.database_url, autocommit=True) as connection:
        yield connection


def test_a_request_changes_no_grant(lite: Stack, user: User, database: psycopg.Connection) -> None:
    assert user.http.post("/rest/v1/notes", json={"body": "mine"}).status_code == 201
    assert [note["body"] for note in user.http.get("/rest/v1/notes").json()] == ["mine"]
    refused = user.http.patch("/rest/v1/notes", params={"body": "eq.mine"}, json={"body": "changed"})
    assert (refused.status_code, refused.json()["code"]) == (403, "42501")
    held = database.execute(
        "select role, relation, has_table_privilege(role, relation, 'update, delete, truncate')"
        " from unnest(array['anon', 'authenticated', 'service_role']) role,"
        " unnest(array['public.notes', 'public.closed']) relation"
    ).fetchall()
    assert not [row for row in held if row[2]]


def test_a_new_table_is_closed_to_everybody(lite: Stack, user: User) -> None:
    with client(lite, lite.publishable_key) as anybody, client(lite, lite.secret_key) as service:
        for http in (anybody, user.http, service):
            response = http.get("/rest/v1/closed")
            assert response.json()["code"] == "42501", response.text


def test_rls_that_comes_after_the_first_request_holds(lite: Stack, database: psycopg.Connection) -> None:
    name = f"late_{uuid4().hex[:8]}"
    database.execute(f"create table public.{name} as select 1 as id")
    database.execute(f"grant select on public.{name} to anon")
    with client(lite, lite.publishable_key) as anybody:
        assert anybody.get(f"/rest/v1/{name}").json() == [{"id": 1}]
        database.execute(f"alter table public.{name} enable row level security")
        assert anybody.get(f"/rest/v1/{name}").json() == []
    database.execute(f"drop table public.{name}")


def test_a_user_sees_no_row_of_another(lite: Stack, user: User) -> None:
    stranger = User.new(lite)
    with stranger.http:
        assert stranger.http.get("/rest/v1/notes").json() == []
        body = {"body": "in your name", "owner_id": user.id}
        assert stranger.http.post("/rest/v1/notes", json=body).json()["code"] == "42501"


def test_a_request_without_a_key_is_refused(lite: Stack, user: User) -> None:
    with client(lite) as keyless, client(lite, bearer=user.token) as without_key:
        for http in (keyless, without_key):
            for path in ("/rest/v1/", "/rest/v1/closed", "/rest/v1/notes", "/auth/v1/user"):
                assert http.get(path).status_code == 401, path
        assert keyless.get("/storage/v1/bucket").json() == []
        assert keyless.post("/storage/v1/bucket", json={"id": "x", "name": "x"}).status_code in (400, 401)


def test_each_key_has_its_role(lite: Stack, user: User) -> None:
    def who(key: str, bearer: str | None = None) -> dict[str, str | None]:
        with client(lite, key, bearer) as http:
            answer: dict[str, str | None] = http.post("/rest/v1/rpc/whoami").json()
        return answer

    assert who(lite.publishable_key) == {"uid": None, "role": "anon", "database_role": "anon"}
    assert who(lite.publishable_key, lite.publishable_key)["database_role"] == "anon"
    assert who(lite.secret_key)["database_role"] == "service_role"
    for key in (lite.publishable_key, lite.secret_key):
        as_user = {"uid": user.id, "role": "authenticated", "database_role": "authenticated"}
        assert who(key, user.token) == as_user


def test_the_secret_key_is_refused_from_a_browser(lite: Stack) -> None:
    with client(lite, lite.secret_key) as http:
        agent = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64)"}
        assert http.get("/rest/v1/notes", headers=agent).status_code == 401


def test_a_storage_link_is_no_access_token(lite: Stack, user: User) -> None:
    # The subject of a link is its path, which its maker chose: here the id of the user.
    link = token(lite.jwt_secret, sub=user.id, bucket="files", intent="download")
    for bearer in (link, f" {link}", token(lite.jwt_secret, sub=user.id, aud="other")):
        with client(lite, lite.publishable_key, bearer) as http:
            for path in ("/rest/v1/notes", "/rest/v1/rpc/whoami", "/auth/v1/user", "/storage/v1/bucket"):
                assert http.get(path).status_code == 401, path


def test_a_real_storage_link_is_no_access_token(lite: Stack, user: User) -> None:
    files = f"/storage/v1/object/files/{user.id}/a.txt"
    assert user.http.post(files, content=b"a", headers={"content-type": "text/plain"}).status_code == 200
    signed = user.http.post(files.replace("/object/", "/object/sign/"), json={"expiresIn": 60}).json()
    link = signed["signedURL"].partition("token=")[2]
    with client(lite, lite.publishable_key, link) as http:
        assert http.get("/rest/v1/notes").status_code == 401
        assert http.get(files).status_code == 401


def test_only_our_secret_makes_a_service_role(lite: Stack, user: User) -> None:
    forged = token("x" * 32, role="service_role", aud="authenticated", sub=user.id)
    expired = token(lite.jwt_secret, role="authenticated", aud="authenticated", sub=user.id, exp=1)
    unsigned = ".".join([*forged.split(".")[:2], ""])
    for bearer in (forged, expired, unsigned, "garbage.of.three"):
        with client(lite, lite.publishable_key, bearer) as http:
            assert http.get("/rest/v1/notes").status_code == 401, bearer
    genuine = token(lite.jwt_secret, role="service_role")  # as a legacy key of a hosted project
    with client(lite, lite.publishable_key, genuine) as http:
        assert http.post("/rest/v1/rpc/whoami").json()["database_role"] == "service_role"


def test_the_secrets_are_random_and_private(lite: Stack) -> None:
    file = lite.data_dir / "secrets.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert (lite.data_dir / "stack.json").stat().st_mode & 0o777 == 0o600
    kept = json.loads(file.read_text())
    assert len(set(kept.values())) == len(kept)
    assert all(len(value) >= 32 for value in kept.values())


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
def test_no_secret_is_in_a_command_line(lite: Stack) -> None:
    kept = json.loads((lite.data_dir / "secrets.json").read_text())
    for child in json.loads((lite.data_dir / "children.json").read_text()).values():
        words = Path(f"/proc/{child['pid']}/cmdline").read_text()
        assert not [name for name, value in kept.items() if value in words]


def test_who_asks_is_read_from_either_setting(user: User, database: psycopg.Connection) -> None:
    claims = json.dumps({"sub": user.id, "role": "authenticated", "email": user.email})
    with database.transaction():
        database.execute("select set_config('request.jwt.claims', %s, true)", [claims])
        row = database.execute(
            "select auth.uid()::text, auth.role(), auth.email(), auth.jwt() ->> 'sub'"
        ).fetchone()
    assert row == (user.id, "authenticated", user.email, user.id)
    with database.transaction():
        database.execute("select set_config('request.jwt.claim.sub', %s, true)", [user.id])
        assert database.execute("select auth.uid()::text").fetchone() == (user.id,)


def test_an_uploaded_page_runs_in_no_browser(user: User) -> None:
    files = f"/storage/v1/object/files/{user.id}/page.html"
    page = {"content-type": "text/html; charset=utf-8"}
    assert user.http.post(files, content=b"<script>alert(1)</script>", headers=page).status_code == 200
    headers = user.http.get(files).headers
    assert headers["content-type"] == "text/plain"
    assert headers["content-security-policy"] == "sandbox"
    assert headers["x-content-type-options"] == "nosniff"


def test_no_object_name_leaves_the_storage_directory(lite: Stack, user: User) -> None:
    for name in ("../../../escaped", f"{user.id}/../../escaped", "%2e%2e/%2e%2e/escaped"):
        response = user.http.post(f"/storage/v1/object/files/{name}", content=b"x")
        assert response.status_code >= 400, name
    assert not list(lite.data_dir.parent.rglob("escaped"))
