"""Rules that hold for every table, policy and function, also for those that are not written yet."""

import re

import psycopg
import pytest

from shared.jobs.state import TRANSITIONS, JobStatus

Connection = psycopg.Connection[dict[str, object]]

# What `authenticated` may do, in full. A grant that is not here is a mistake.
GRANTS = {
    "chunks": {"select"},
    "dataset_chunks": {"select"},
    "dataset_xrays": {"select"},
    "deployment_history": {"select"},
    "deployments": {"select"},
    "document_withdrawals": {"select"},
    "documents": {
        "select",
        "delete",
        "insert(byte_size,id,mime_type,name,project_id,storage_path)",
        "update(name)",
    },
    "estimate_calibrations": {"select"},
    "fine_tuned_models": {"select", "update(description,notes,tag,tags)"},
    "generation_batches": {"select"},
    "model_usage": {"select"},
    "pair_revisions": {"select"},
    "project_members": {"select", "delete", "insert(project_id,role,user_id)", "update(role)"},
    "project_prompts": {"select", "delete", "insert(content,name,project_id)", "update(content)"},
    "projects": {
        "select",
        "delete",
        "insert(budget_enforcement,monthly_budget_usd,name)",
        "update(budget_enforcement,monthly_budget_usd,name)",
    },
    "review_sample_pairs": {"select"},
    "review_samples": {"select"},
    "training_datasets": {"select", "delete", "update(name)"},
    "training_job_documents": {"select"},
    "training_job_events": {"select"},
    "training_jobs": {"select"},
    "training_metrics": {"select"},
    "training_pairs": {"select"},
    "training_templates": {
        "select",
        "delete",
        "insert(base_model,description,method,name,project_id,training_config)",
        "update(base_model,description,method,name,training_config)",
    },
    "user_api_keys": {
        "select(account,base_url,created_at,invalid_at,invalid_reason,last_four,permissions,provider,"
        "updated_at,user_id,validated_at)"
    },
    "webhook_deliveries": {"select"},
    "webhook_endpoints": {"select"},
    "webhook_secrets": {"select(created_at,endpoint_id,expires_at,id,last_four,project_id)"},
}
VIEWS = {"pairs_to_review", "preferences_from_edits"}  # read by members, each with their own eyes
FUNCTIONS_OF_USERS = {
    "apply_fix",
    "budget_standing",
    "certificate_standing",
    "document_reach",
    "edit_pair",
    "issue_certificate",
    "make_preference_dataset",
    "my_project_role",
    "my_projects",
    "near_chunks",
    "reached_models",
    "restore_document",
    "review_pairs",
    "riskiest_pairs",
    "similar_pairs",
    "undo_review",
    "withdraw_document",
}


def names(database: Connection, sql: str) -> set[str]:
    return {str(next(iter(row.values()))) for row in database.execute(sql)}


def tables(database: Connection) -> set[str]:
    return names(
        database,
        "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')",
    )


def granted(database: Connection, role: str) -> dict[str, set[str]]:
    whole = database.execute(
        "select table_name, lower(privilege_type) as verb from information_schema.role_table_grants"
        " where table_schema = 'public' and grantee = %s",
        [role],
    ).fetchall()
    found: dict[str, set[str]] = {}
    for row in whole:
        found.setdefault(str(row["table_name"]), set()).add(str(row["verb"]))
    columns = database.execute(
        "select table_name, lower(privilege_type) as verb,"
        " string_agg(column_name, ',' order by column_name) as names"
        " from information_schema.column_privileges"
        " where table_schema = 'public' and grantee = %s group by 1, 2",
        [role],
    ).fetchall()
    for row in columns:
        verbs = found.setdefault(str(row["table_name"]), set())
        if row["verb"] not in verbs:
            verbs.add(f"{row['verb']}({row['names']})")
    return found


def test_every_table_has_row_level_security(database: Connection) -> None:
    secured = names(
        database,
        "select relname from pg_class"
        " where relnamespace = 'public'::regnamespace and relkind = 'r' and relrowsecurity",
    )
    assert tables(database) - secured == set()


def test_grants_are_exactly_these(database: Connection) -> None:
    assert granted(database, "authenticated") == GRANTS | {view: {"select"} for view in VIEWS}
    assert granted(database, "anon") == {}
    assert set(GRANTS) == tables(database)
    assert set(granted(database, "service_role")) == tables(database) | VIEWS


def test_every_view_asks_with_the_rights_of_its_reader(database: Connection) -> None:
    views = database.execute(
        "select relname, coalesce(reloptions, '{}') as options from pg_class"
        " where relnamespace = 'public'::regnamespace and relkind in ('v', 'm')"
    ).fetchall()
    assert {view["relname"] for view in views} == VIEWS
    assert all("security_invoker=on" in str(view["options"]) for view in views)


def test_every_policy_names_its_role_and_one_verb(database: Connection) -> None:
    for policy in database.execute("select * from pg_policies where schemaname = 'public'"):
        assert policy["roles"] in (["authenticated"], "{authenticated}"), policy["policyname"]
        assert policy["cmd"] != "ALL", policy["policyname"]
        assert policy["cmd"] != "UPDATE" or policy["with_check"], policy["policyname"]


def test_no_policy_asks_for_the_user_once_a_row(database: Connection) -> None:
    for policy in database.execute("select * from pg_policies where schemaname = 'public'"):
        rule = f"{policy['qual']} {policy['with_check']}"
        bare = re.sub(r"\( ?SELECT auth\.uid\(\) AS uid\)", "", rule)
        assert "auth.uid()" not in bare, policy["policyname"]


def test_every_foreign_key_has_an_index(database: Connection) -> None:
    missing = database.execute(
        """
        select c.conrelid::regclass::text as "table", c.conname
        from pg_constraint c
        where c.contype = 'f' and c.connamespace = 'public'::regnamespace and not exists (
          select from pg_index i where i.indrelid = c.conrelid
            and (i.indkey::int2[])[0:cardinality(c.conkey) - 1] @> c.conkey)
        """
    ).fetchall()
    assert missing == []


def test_every_table_has_a_primary_key(database: Connection) -> None:
    keyed = names(
        database,
        "select conrelid::regclass::text from pg_constraint"
        " where contype = 'p' and connamespace = 'public'::regnamespace",
    )
    assert tables(database) <= keyed


def test_functions_run_as_their_caller_and_are_closed(database: Connection) -> None:
    functions = database.execute(
        """
        select p.proname, p.prosecdef, n.nspname, coalesce(array_to_string(p.proconfig, ','), '') as settings,
          has_function_privilege('anon', p.oid, 'execute') as anon,
          has_function_privilege('authenticated', p.oid, 'execute') as users
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname in ('public', 'private')
        """
    ).fetchall()
    assert functions
    for function in functions:
        assert "search_path" in str(function["settings"]), function["proname"]
        assert not function["anon"], function["proname"]
        assert function["users"] == (function["proname"] in FUNCTIONS_OF_USERS), function["proname"]
        assert not (function["nspname"] == "public" and function["prosecdef"]), function["proname"]


def test_realtime_publishes_what_clients_follow_and_nothing_else(database: Connection) -> None:
    published = names(
        database, "select tablename from pg_publication_tables where pubname = 'supabase_realtime'"
    )
    assert published == {"training_jobs", "training_datasets", "documents"}


def test_the_transitions_are_those_of_the_code(database: Connection) -> None:
    rows = database.execute(
        "select from_status::text as f, to_status::text as t from private.job_transitions"
    )
    assert {(JobStatus(str(row["f"])), JobStatus(str(row["t"]))) for row in rows} == TRANSITIONS
    assert names(database, "select unnest(enum_range(null::public.job_status))::text") == set(JobStatus)


@pytest.mark.parametrize("start", JobStatus)
def test_every_other_move_is_refused_even_to_the_service(database: Connection, start: JobStatus) -> None:
    job = _job_in(database, start)
    for end in JobStatus:
        if end == start:
            continue
        with database.transaction(force_rollback=True):
            database.execute("set local role service_role")
            move = "update public.training_jobs set status = %s where id = %s"
            if (start, end) in TRANSITIONS:
                database.execute(move, [end, job])
            else:
                with pytest.raises(psycopg.errors.CheckViolation, match="cannot go from"):
                    database.execute(move, [end, job])


@pytest.mark.parametrize("end", [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED])
def test_an_ended_job_does_not_change(database: Connection, end: JobStatus) -> None:
    job = _job_in(database, end)
    with pytest.raises(psycopg.errors.CheckViolation, match="does not change any more"):
        database.execute("update public.training_jobs set progress_percent = 1 where id = %s", [job])


def _job_in(database: Connection, status: JobStatus) -> object:
    """A job that walked to this status the allowed way. The caller rolls back."""
    user = "00000000-0000-4000-8000-000000000001"
    project = "00000000-0000-4000-8000-000000000003"
    row = database.execute(
        "insert into public.training_datasets (project_id, name, status)"
        " values (%s, 'walk', 'ready') returning id",
        [project],
    ).fetchone()
    assert row
    job = database.execute(
        "insert into public.training_jobs (project_id, dataset_id, user_id, idempotency_key, request_hash,"
        " provider, base_model, method, model_name)"
        " values (%s, %s, %s, gen_random_uuid(), 'h', 'local', 'fineflow/tiny', 'full', 'm') returning id",
        [project, row["id"], user],
    ).fetchone()
    assert job
    walk = ["uploading", "validating", "queued", "training", "completed"]
    steps = walk[: walk.index(status) + 1] if status in walk else ([] if status == "pending" else [status])
    for step in steps:
        database.execute("update public.training_jobs set status = %s where id = %s", [step, job["id"]])
    return job["id"]
