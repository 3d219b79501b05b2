"""Who may do what, for every table, by actor. One row of each table lies in one project.

The actors: its owner, an editor and a viewer of it, a stranger, nobody (anonymous), and the service.
"""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import psycopg
import pytest

from shared.training.catalog import unfit
from shared.training.config import METHODS, TrainingConfig

Connection = psycopg.Connection[dict[str, object]]

ACTORS = ("owner", "editor", "viewer", "stranger", "anonymous", "service")
MEMBERS = {"owner", "editor", "viewer", "service"}
EDITORS = {"owner", "editor", "service"}
OWNERS = {"owner", "service"}
SERVICE = {"service"}
NOBODY: set[str] = set()

# table -> who may select, insert, update, delete.
RIGHTS: dict[str, tuple[set[str], set[str], set[str], set[str]]] = {
    "projects": (MEMBERS, {"owner", "editor", "viewer", "stranger", "service"}, OWNERS, OWNERS),
    "project_members": (MEMBERS, OWNERS, OWNERS, OWNERS | {"editor"}),  # the editor may leave
    "documents": (MEMBERS, EDITORS, EDITORS, EDITORS),
    "chunks": (MEMBERS, SERVICE, SERVICE, SERVICE),
    "document_withdrawals": (MEMBERS, NOBODY, NOBODY, NOBODY),
    "training_datasets": (MEMBERS, SERVICE, EDITORS, EDITORS),
    "dataset_chunks": (MEMBERS, SERVICE, SERVICE, SERVICE),
    "generation_batches": (MEMBERS, SERVICE, SERVICE, SERVICE),
    "project_prompts": (MEMBERS, EDITORS, EDITORS, EDITORS),
    "training_pairs": (MEMBERS, SERVICE, SERVICE, SERVICE),
    "pair_revisions": (MEMBERS, NOBODY, NOBODY, SERVICE),
    "review_samples": (MEMBERS, NOBODY, NOBODY, SERVICE),
    "review_sample_pairs": (MEMBERS, NOBODY, NOBODY, SERVICE),
    "dataset_xrays": (MEMBERS, SERVICE, SERVICE, SERVICE),
    "user_api_keys": ({"owner", "service"}, SERVICE, SERVICE, SERVICE),
    "training_templates": (MEMBERS, EDITORS, EDITORS, EDITORS),
    "training_jobs": (MEMBERS, SERVICE, SERVICE, SERVICE),
    "training_job_documents": (MEMBERS, SERVICE, SERVICE, SERVICE),
    "estimate_calibrations": (MEMBERS, SERVICE, SERVICE, SERVICE),
    "training_job_events": (MEMBERS, SERVICE, NOBODY, NOBODY),
    "training_metrics": (MEMBERS, SERVICE, NOBODY, NOBODY),
    "fine_tuned_models": (MEMBERS, SERVICE, EDITORS, SERVICE),
    "deployments": (MEMBERS, SERVICE, SERVICE, SERVICE),
    "deployment_history": (MEMBERS, SERVICE, NOBODY, NOBODY),
    "model_usage": (MEMBERS, SERVICE, NOBODY, NOBODY),
    "webhook_endpoints": (MEMBERS, SERVICE, SERVICE, SERVICE),
    "webhook_secrets": (MEMBERS, SERVICE, SERVICE, SERVICE),
    "webhook_deliveries": (MEMBERS, SERVICE, SERVICE, SERVICE),
}
UPDATES = {
    "projects": "name = 'renamed'",
    "project_members": "role = 'viewer'",
    "documents": "name = 'renamed'",
    "chunks": "content = 'x'",
    "document_withdrawals": "reason = 'x'",
    "training_datasets": "name = 'renamed'",
    "dataset_chunks": "attempts = 9",
    "generation_batches": "attempts = 9",
    "training_pairs": "rating = 5",
    "project_prompts": "content = 'Ask well.'",
    "pair_revisions": "action = 'edit'",
    "review_samples": "certified_at = now()",
    "review_sample_pairs": "verdict = 'good'",
    "dataset_xrays": "totals = '{}'",
    "user_api_keys": "last_four = 'zzzz'",
    "training_templates": "description = 'x'",
    "training_jobs": "cost_usd = 0",
    "training_job_documents": "fetched_at = now()",
    "estimate_calibrations": "duration_ratio = 1",
    "training_job_events": "message = 'x'",
    "training_metrics": "training_loss = 0",
    "fine_tuned_models": "notes = 'x'",
    "deployments": "notes = 'x'",
    "deployment_history": "notes = 'x'",
    "model_usage": "feedback = 1",
    "webhook_endpoints": "url = 'https://b.test'",
    "webhook_secrets": "last_four = 'zzzz'",
    "webhook_deliveries": "status = 'dead'",
}
# A column that clients may select, where they may not select them all.
ONE_COLUMN = {"user_api_keys": "provider", "webhook_secrets": "last_four"}


class World:
    """One project with a row in every table, seen through each actor's eyes."""

    def __init__(self, database: Connection) -> None:
        self.database = database
        self.users = {actor: uuid4() for actor in ("owner", "editor", "viewer", "stranger")}
        self.ids: dict[str, UUID] = {}
        for actor, user in self.users.items():
            database.execute(
                "insert into auth.users (id, email) values (%s, %s)", [user, f"{actor}-{user}@test.local"]
            )
        self.fill()

    def insert(self, table: str, **values: object) -> None:
        columns = ", ".join(values)
        marks = ", ".join(["%s"] * len(values))
        self.database.execute(
            f"insert into public.{table} ({columns}) values ({marks})", list(values.values())
        )

    def new_row(self, table: str) -> dict[str, object]:
        """Values of one more row of this table, as an insert would name them."""
        ids, owner, project = self.ids, self.users["owner"], self.ids["projects"]
        unique = uuid4().hex
        in_project = {"project_id": project}
        in_dataset = in_project | {"dataset_id": ids.get("training_datasets")}
        of_job = in_project | {"job_id": ids.get("training_jobs")}
        made = {"provider": "local", "base_model": "fineflow/tiny", "method": "full"}
        rows: dict[str, dict[str, object]] = {
            "projects": {"name": "another"},
            "project_members": in_project | {"user_id": self.users["stranger"], "role": "viewer"},
            "documents": in_project
            | {"name": "a.md", "storage_path": f"{project}/{unique}.md", "mime_type": "text/markdown"}
            | {"byte_size": 1},
            "chunks": in_project
            | {"document_id": ids.get("documents"), "ordinal": uuid4().int % 10**6, "content": "x"}
            | {"content_hash": "h", "char_start": 0, "char_end": 1, "token_count": 1, "quality_score": 0.5},
            "document_withdrawals": in_project | {"document_id": uuid4(), "document_name": "a.md"},
            "training_datasets": in_project | {"name": "set", "status": "ready"},
            "dataset_chunks": in_dataset
            | {"chunk_id": ids.get("spare_chunk", ids.get("chunks")), "ordinal": 1},
            "dataset_xrays": in_dataset
            | {"base_model": unique, "max_length_tokens": 9, "content_hash": "h", "totals": "{}"},
            "generation_batches": in_dataset | {"request_count": 1},
            "project_prompts": in_project | {"name": "qa", "content": "Ask."},
            "training_pairs": in_dataset | {"ordinal": 1, "user_message": "q", "assistant_message": "a"},
            "pair_revisions": in_dataset
            | {"pair_id": uuid4(), "revision": 1, "batch_id": uuid4(), "action": "rate"}
            | {"before": '{"rating": 1}', "after": '{"rating": 5}'},
            "review_samples": in_dataset
            | {"max_bad_share": 0.03, "confidence": 0.95, "pair_count": 1, "looks": "[]", "others_hash": "h"},
            "review_sample_pairs": in_project
            | {"sample_id": ids.get("review_samples"), "position": uuid4().int % 10**6, "pair_id": uuid4()},
            "user_api_keys": {"user_id": owner, "provider": "gemini", "ciphertext": "sealed"}
            | {"key_id": "k", "last_four": "1234"},
            "training_templates": in_project | {"name": unique, "method": "lora"},
            "training_jobs": in_dataset
            | made
            | {"user_id": owner, "idempotency_key": unique, "request_hash": "h", "model_name": "m"},
            "training_job_documents": of_job | {"attempt": 1, "document_id": uuid4(), "pair_ids": [uuid4()]},
            "estimate_calibrations": in_project
            | {"job_id": uuid4(), "provider": "local", "gpu": "cpu", "method": "full", "size_class": 19}
            | {"expected_seconds": 1},
            "training_job_events": of_job | {"type": "t", "message": "m"},
            "training_metrics": of_job | {"step": uuid4().int % 10**6},
            "fine_tuned_models": in_project | made | {"name": "m"},
            "deployments": in_project | {"name": f"d{unique[:6]}", "model_id": ids.get("fine_tuned_models")},
            "deployment_history": in_project | {"deployment_id": ids.get("deployments"), "action": "deploy"},
            "model_usage": in_project | {"latency_ms": 1},
            "webhook_endpoints": in_project | {"url": "https://a.test"},
            "webhook_secrets": in_project
            | {"endpoint_id": ids.get("webhook_endpoints"), "ciphertext": "sealed", "key_id": "k"}
            | {"last_four": "1234", "expires_at": datetime.now(UTC)},
            "webhook_deliveries": of_job
            | {
                "endpoint_id": ids.get("webhook_endpoints"),
                "event_id": uuid4(),
                "type": "t",
                "payload": "{}",
            },
        }
        return rows[table]

    def fill(self) -> None:
        self.ids["projects"] = project = uuid4()
        self.insert("projects", id=project, owner_id=self.users["owner"], name="p")
        for actor in ("editor", "viewer"):
            self.insert("project_members", project_id=project, user_id=self.users[actor], role=actor)
        numbered = {
            "pair_revisions",
            "review_sample_pairs",
            "user_api_keys",
            "project_prompts",
            "training_job_documents",
            "training_job_events",
            "training_metrics",
            "deployment_history",
            "model_usage",
            "dataset_xrays",
            "estimate_calibrations",
        }
        for table in RIGHTS:
            if table in ("projects", "project_members"):
                continue
            row = self.new_row(table)
            if table == "user_api_keys":
                row["provider"] = "openai"
            if table == "project_prompts":
                row["name"] = "rules"
            if table == "estimate_calibrations":
                row["job_id"] = self.ids["training_jobs"]
            if table not in numbered:
                self.ids[table] = uuid4()
                row["id"] = self.ids[table]
            self.insert(table, **row)
        self.ids["spare_chunk"] = uuid4()
        self.insert("chunks", **self.new_row("chunks") | {"id": self.ids["spare_chunk"]})

    def become(self, actor: str) -> None:
        role = {"anonymous": "anon", "service": "service_role"}.get(actor, "authenticated")
        user = self.users.get(actor)
        claims = f'{{"sub": "{user}", "role": "{role}"}}' if user else f'{{"role": "{role}"}}'
        self.database.execute("select set_config('request.jwt.claims', %s, true)", [claims])
        self.database.execute(
            "select set_config('request.jwt.claim.sub', %s, true)", [str(user) if user else ""]
        )
        self.database.execute(f"set local role {role}")

    def may(self, actor: str, sql: str, parameters: list[object]) -> bool:
        """Whether the statement reaches at least one row. Undone at once."""
        try:
            with self.database.transaction(force_rollback=True):
                self.become(actor)
                return self.database.execute(sql, parameters).rowcount > 0
        except psycopg.errors.InsufficientPrivilege:
            return False
        except (psycopg.errors.ForeignKeyViolation, psycopg.errors.NotNullViolation):
            return True  # allowed, but other rows stand in its way

    def where(self, table: str) -> tuple[str, list[object]]:
        if table == "user_api_keys":
            return "user_id = %s", [self.users["owner"]]
        if table == "project_members":
            return "user_id = %s", [self.users["editor"]]
        if table == "projects":
            return "id = %s", [self.ids["projects"]]
        return "project_id = %s", [self.ids["projects"]]


@pytest.fixture
def world(database: Connection) -> World:
    return World(database)


def test_every_table_is_in_the_matrix(database: Connection) -> None:
    rows = database.execute("select tablename from pg_tables where schemaname = 'public'")
    assert {row["tablename"] for row in rows} == set(RIGHTS)


@pytest.mark.parametrize("table", RIGHTS)
def test_rights_by_actor(world: World, table: str) -> None:
    condition, parameters = world.where(table)
    row = world.new_row(table)
    columns, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    one_column = ONE_COLUMN.get(table, "1")
    statements = {
        "select": (f"select {one_column} from public.{table} where {condition}", parameters),
        "insert": (f"insert into public.{table} ({columns}) values ({marks})", list(row.values())),
        "update": (f"update public.{table} set {UPDATES[table]} where {condition}", parameters),
        "delete": (f"delete from public.{table} where {condition}", parameters),
    }
    for (verb, (sql, values)), allowed in zip(statements.items(), RIGHTS[table], strict=True):
        found = {actor for actor in ACTORS if world.may(actor, sql, values)}
        assert found == allowed, f"{verb} on {table}"


def test_no_client_reads_a_ciphertext(world: World) -> None:
    for table in ONE_COLUMN:
        for actor in ("owner", "editor", "viewer", "stranger", "anonymous"):
            assert not world.may(actor, f"select ciphertext from public.{table}", [])
            assert not world.may(actor, f"select * from public.{table}", [])
        assert world.may("service", f"select ciphertext from public.{table}", [])
    for column in ("key_id", "webhook_secret", "webhook_key_id", "set_at"):
        assert not world.may("owner", f"select {column} from public.user_api_keys", []), column
    shown = "select account, permissions, invalid_at, invalid_reason from public.user_api_keys"
    assert world.may("owner", shown, [])
    assert not world.may("editor", shown, [])


def test_a_client_writes_no_status_cost_or_score(world: World) -> None:
    for statement in (
        "update public.training_jobs set status = 'uploading'",
        "update public.training_jobs set cancel_requested_at = now()",
        "update public.training_datasets set status = 'ready'",
        "update public.documents set status = 'ready'",
        "update public.documents set storage_path = 'x'",
        "update public.training_pairs set quality_score = 1",
        "update public.fine_tuned_models set artifact_path = '/etc'",
        "update public.deployments set model_id = gen_random_uuid()",
        "update public.projects set owner_id = gen_random_uuid()",
    ):
        assert not world.may("owner", statement, []), statement


def test_nobody_makes_himself_an_owner(world: World) -> None:
    project = world.ids["projects"]
    stranger = world.users["stranger"]
    join = "insert into public.project_members (project_id, user_id, role) values (%s, %s, %s)"
    assert not world.may("stranger", join, [project, stranger, "viewer"])
    assert not world.may("editor", join, [project, stranger, "viewer"])
    assert not world.may("owner", join, [project, stranger, "owner"])
    assert world.may("owner", join, [project, stranger, "editor"])
    assert not world.may(
        "editor",
        "update public.project_members set role = 'owner' where user_id = %s",
        [world.users["editor"]],
    )


def test_everybody_reads_the_built_in_templates_and_nobody_changes_them(world: World) -> None:
    for actor in ("owner", "editor", "viewer", "stranger"):
        for statement, allowed in (
            ("select from public.training_templates where project_id is null", True),
            ("update public.training_templates set description = 'x' where project_id is null", False),
            ("delete from public.training_templates where project_id is null", False),
            ("insert into public.training_templates (name, method) values ('mine', 'lora')", False),
        ):
            assert world.may(actor, statement, []) == allowed, (actor, statement)
    assert not world.may("anonymous", "select id from public.training_templates", [])


def test_the_built_in_templates_are_trainings_that_can_be_had(database: Connection) -> None:
    rows = database.execute("select * from public.training_templates where project_id is null").fetchall()
    names = {"quick-try", "balanced", "quality", "small-gpu", "preference-after-sft", "embeddings"}
    assert {row["name"] for row in rows} == names
    for row in rows:
        TrainingConfig.model_validate(row["training_config"])
        assert row["method"] in METHODS
        assert unfit(str(row["base_model"]), row["method"]) is None


def test_a_document_cannot_point_into_another_project(world: World) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        world.may(
            "owner",
            "insert into public.documents (project_id, name, storage_path, mime_type, byte_size)"
            " values (%s, 'a', %s, 'text/plain', 1)",
            [world.ids["projects"], f"{uuid4()}/a.md"],
        )


def test_users_call_no_function_of_the_service(world: World) -> None:
    for call in (
        "select public.claim_training_jobs(1, 1)",
        "select public.release_training_jobs('[]')",
        "select public.claim_run_sweeps(1, 1)",
        "select public.create_training_job('{}')",
        "select public.take_rate_limit('x', 1, 1)",
        "select public.uploaded_files('{}')",
        "select public.create_imported_dataset('{}', '{}')",
        "select public.claim_import(gen_random_uuid(), 1)",
        "select public.end_import(gen_random_uuid(), gen_random_uuid(), '{}', '{}', '{}')",
        "select * from private.dataset_imports",
        "select public.mark_api_key_invalid(gen_random_uuid(), 'openai', now(), 'x')",
        "select public.reseal_api_key(gen_random_uuid(), 'openai', 'x', 'y', 'z')",
        "select public.deploy_model(gen_random_uuid(), 'x', gen_random_uuid())",
        "select public.save_dataset_split(gen_random_uuid(), null, '{}', '[]')",
        "select public.record_fetched_documents(gen_random_uuid(), 1, '{}')",
        "select public.save_compared_chunks(gen_random_uuid(), gen_random_uuid(), 'x', '[]', 1::real)",
        "select * from private.chunk_sketches",
        "select private.call_function('poll-training', '{}')",
        "select public.claim_webhook_deliveries(1, 1, 1)",
        "select public.redeliver_webhook(gen_random_uuid())",
        "select public.receive_provider_webhook('openai', gen_random_uuid(), 'x', 'y')",
        "select * from private.webhook_inbox",
        "select * from private.training_job_control",
    ):
        for actor in ("owner", "stranger", "anonymous"):
            assert not world.may(actor, call, []), (actor, call)


def test_a_prompt_remembers_who_wrote_it_and_stays_in_its_project(world: World) -> None:
    write = "insert into public.project_prompts (project_id, name, content) values (%s, 'auto', 'Ask.')"
    with world.database.transaction(force_rollback=True):
        world.become("editor")
        world.database.execute(write, [world.ids["projects"]])
        author = world.database.execute("select updated_by from public.project_prompts where name = 'auto'")
        assert author.fetchone() == {"updated_by": world.users["editor"]}
    for column in ("project_id = gen_random_uuid()", "name = 'judge'", "updated_by = null"):
        assert not world.may("owner", f"update public.project_prompts set {column}", []), column
    with pytest.raises(psycopg.errors.CheckViolation), world.database.transaction():
        world.database.execute(write.replace("'Ask.'", "repeat('x', 8001)"), [world.ids["projects"]])
