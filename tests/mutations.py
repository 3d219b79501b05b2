"""`make mutations`: takes one safeguard away at a time and shows that the tests notice.

Each mutation edits a copy of the project, runs the tests that should see it, and counts as caught when
they fail; the same tests pass on the copy as it is. The last line is JSON.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_SECONDS = 300
_LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".fineflow", "node_modules", "__pycache__", ".*_cache")
_JOBS = "tests/shared/jobs/test_advance.py"
_IMPORTS = "tests/functions/test_import_dataset.py"
_SIMULATION = "tests/shared/jobs/simulation/test_simulation.py"
_BIND = "    return await _bind(core, claim, [ref])\n\n\nasync def recover"
_GENERATION = "tests/shared/generation"
_LATE_INTENT = (
    "    await core.store.move(claim, [JobStatus.UPLOADING], submit=True, sweep_after_seconds=300)\n"
)
_CLAIMS = "supabase/migrations/20261121000200_job_claims.sql"
_KILLS = "tests/functions/test_generation_kills.py"
_LOCAL = "tests/shared/providers/test_local.py"
_PACKING = "tests/modal_app/methods/test_packing.py"
_BATCHES = "tests/functions/test_generation_batch.py"
_GGUF = "tests/modal_app/export/test_gguf.py"
_CAP = "tests/functions/test_generation_spend.py::test_no_chunk_is_begun_that_could_pass_the_cap"


@dataclass(frozen=True)
class Mutation:
    """A safeguard, the edits that take it away, and the tests that must fail then."""

    name: str
    edits: tuple[tuple[str, str, str], ...]  # file, text, what takes its place
    tests: tuple[str, ...]


MUTATIONS = (
    Mutation(
        "the fence: a write without the lease token is accepted",
        ((_CLAIMS, " and lease_token = p_lease_token for update", " for update"),),
        (f"{_JOBS}::test_who_lost_the_lease_writes_nothing",),
    ),
    Mutation(
        "the grace: an attempt that is not found is given up at once",
        (("shared/jobs/timing.py", "return self.step + late_seconds", "return 0"),),
        (
            f"{_JOBS}::test_an_unknown_start_is_not_repeated_before_the_grace",
            f"{_SIMULATION}::test_a_thousand_seeds_with_thrice_the_faults",
        ),
    ),
    Mutation(
        "the unique index of idempotency keys",
        (
            (
                "supabase/migrations/20261120000700_training_jobs.sql",
                "updated_at timestamptz not null default now(),\n  unique (user_id, idempotency_key)",
                "updated_at timestamptz not null default now()",
            ),
        ),
        ("tests/supabase/test_jobs_once.py",),
    ),
    Mutation(
        "the unique index of provider runs",
        (
            (
                "supabase/migrations/20261120000700_training_jobs.sql",
                "create unique index training_jobs_provider_job_id_idx",
                "create index training_jobs_provider_job_id_idx",
            ),
        ),
        ("tests/supabase/test_jobs_once.py",),
    ),
    Mutation(
        "the intent: nothing is committed before the call",
        (
            (
                "shared/jobs/start.py",
                "await core.store.move(\n        claim,\n        [JobStatus.UPLOADING],\n",
                "replace(claim.job, attempt=claim.job.attempt + 1)\n    dict(\n",
            ),
            ("shared/jobs/start.py", _BIND, _LATE_INTENT + _BIND),
            (
                "shared/jobs/start.py",
                "from typing import TYPE_CHECKING",
                "from dataclasses import replace\nfrom typing import TYPE_CHECKING",
            ),
        ),
        (f"{_SIMULATION}::test_a_thousand_seeds_with_thrice_the_faults",),
    ),
    Mutation(
        "max_retries=0: OpenAI's SDK repeats the create by itself",
        (("shared/providers/openai_client.py", "max_retries=0,", "max_retries=2,"),),
        ("tests/shared/providers/test_contract.py",),
    ),
    Mutation(
        "the queue of starts: a budget is read without a lock on its project",
        (("supabase/migrations/20261130104500_job_columns.sql", ") for no key update;", ");"),),
        ("tests/supabase/test_budgets.py::test_a_start_waits_for_the_one_before_it_and_counts_it",),
    ),
    Mutation(
        "the place of reading: a batch of an import is stored wherever it stands",
        (
            (
                "supabase/migrations/20261129000220_import_steps.sql",
                "and lease_token = p_lease_token and ended_at is null\n"
                "      and files_done = p_files_done and items_done = p_items_done\n    for update",
                "and lease_token = p_lease_token and ended_at is null\n    for update",
            ),
        ),
        (f"{_IMPORTS}::test_a_batch_that_is_sent_twice_or_without_its_lease_is_stored_once",),
    ),
    Mutation(
        "the lease of an import: a batch without its token is stored",
        (
            (
                "supabase/migrations/20261129000220_import_steps.sql",
                "where dataset_id = p_dataset_id and lease_token = p_lease_token and ended_at is null\n"
                "      and files_done",
                "where dataset_id = p_dataset_id and ended_at is null\n      and files_done",
            ),
        ),
        (f"{_IMPORTS}::test_a_batch_that_is_sent_twice_or_without_its_lease_is_stored_once",),
    ),
    Mutation(
        "the sweeper",
        (("shared/jobs/reconcile.py", "        await self._sweep()\n", ""),),
        (f"{_JOBS}::test_a_second_run_is_found_and_stopped",),
    ),
    Mutation(
        "the trainer's claim: a second trainer of an attempt is accepted",
        (
            (
                "supabase/migrations/20261121000400_trainer_reports.sql",
                " or coalesce(control.run_id, p_run_id) <> p_run_id",
                "",
            ),
        ),
        (f"{_JOBS}::test_reports_are_stored_once_and_a_second_trainer_is_told_to_stop",),
    ),
    Mutation(
        "recall: rows of a document that was just withdrawn are given away",
        (
            (
                "supabase/migrations/20261129000530_trained_documents.sql",
                "where d.id = k::uuid and d.status <> 'withdrawn'",
                "where d.id = k::uuid",
            ),
        ),
        ("tests/functions/test_recall.py::test_what_a_trainer_fetches_is_what_it_was_given",),
    ),
    Mutation(
        "the queue of documents: chunks of a project are placed two at a time",
        (
            (
                "supabase/migrations/20261129000520_near_duplicate_chunks.sql",
                "select pg_advisory_xact_lock(hashtextextended('chunks of ' || p_project_id, 0))",
                "select 1",
            ),
        ),
        (
            "tests/functions/test_near_duplicates.py"
            "::test_of_documents_that_come_at_once_the_second_waits_and_sees_the_first",
        ),
    ),
    Mutation(
        "the answer of a model is kept before anything is made of it",
        (
            (
                "shared/generation/answers.py",
                "        await asyncio.shield(self._keep(question_hash, answer))\n",
                "",
            ),
        ),
        (f"{_KILLS}::test_killed_at_every_point_it_ends_with_the_same_pairs_and_the_same_bill",),
    ),
    Mutation(
        "the cost of an answer is counted once for each id",
        (
            (
                "supabase/migrations/20261129000310_model_answers.sql",
                "  if not found then\n    return false;\n  end if;\n",
                "  select * into kept from private.model_answers a where a.id = (p_answer ->> 'id')::uuid;\n",
            ),
        ),
        (f"{_BATCHES}::test_a_function_that_dies_while_it_keeps_the_answers_counts_none_twice",),
    ),
    Mutation(
        "a batch that may be submitted is looked for before it is submitted again",
        (("shared/generation/batch.py", 'if self.batch["attempts"] > 0:', "if False:"),),
        (f"{_BATCHES}::test_a_submission_whose_answer_is_lost_is_found_and_not_repeated",),
    ),
    Mutation(
        "the grounding of numbers: whatever an answer claims is in the source",
        (
            (
                "shared/generation/grounding/check.py",
                "    if any(agrees(claimed, number) for number in source.numbers):\n        return claimed",
                "    return claimed",
            ),
        ),
        (f"{_GENERATION}/grounding/test_planted_errors.py",),
    ),
    Mutation(
        "the place of numbers: one that the source has may stand anywhere",
        (
            (
                "shared/generation/grounding/places.py",
                "return [claims[place] for",
                "return [] and [claims[place] for",
            ),
        ),
        (f"{_GENERATION}/grounding/test_check.py",),
    ),
    Mutation(
        "the marks of a prompt: an answer that gives them away is read",
        (("shared/generation/model_answer.py", "if gives_away([text", "if False and gives_away([text"),),
        (f"{_GENERATION}/test_language_model.py",),
    ),
    Mutation(
        "flagged passages are shown to the model",
        (("shared/generation/source.py", "without_flagged(row", "str(row"),),
        (f"{_GENERATION}/test_language_model.py",),
    ),
    Mutation(
        "what acts is stored although the chunk does not hold it",
        (("shared/generation/pairs.py", "if not is_suspicious(draft, chunk)", "if not False"),),
        (f"{_GENERATION}/test_language_model.py",),
    ),
    Mutation(
        "repeated questions are those that were made later, wherever they stand",
        (("shared/generation/duplicates.py", "sorted(pairs, key=lambda pair: pair.place)", "list(pairs)"),),
        (f"{_GENERATION}/test_duplicates.py",),
    ),
    Mutation(
        "the spend cap holds back what the chunks in hand may cost",
        (
            (
                "supabase/migrations/20261129000320_generation_control.sql",
                "      - private.chunks_in_hand(dataset.id))::integer",
                "    )::integer",
            ),
        ),
        (_CAP,),
    ),
    Mutation(
        "packing: a row has positions of its own",
        (("modal_app/methods/packing.py", "torch.arange(len(ids))", "torch.arange(begin, end)"),),
        (f"{_PACKING}::test_packed_and_separate_losses_agree",),
    ),
    Mutation(
        "packing is tried out on the model before it is relied upon",
        (
            (
                "modal_app/methods/packing.py",
                "    return _difference(beside",
                "    return True or _difference(beside",
            ),
        ),
        (f"{_PACKING}::test_a_model_that_keeps_rows_apart_is_told_from_one_that_does_not",),
    ),
    Mutation(
        "the prompt of a preference is read and not learned",
        (("modal_app/methods/data.py", "start = min(better.start, worse.start)", "start = 1"),),
        ("tests/modal_app/methods/test_data.py",),
    ),
    Mutation(
        "a base model that lacks weights is refused",
        (("modal_app/base.py", 'sorted(found["missing_keys"])', "[]"),),
        ("tests/modal_app/test_failures.py::test_a_base_model_that_lacks_weights",),
    ),
    Mutation(
        "q and k are laid out as llama.cpp rotates them",
        (("modal_app/export/architectures.py", "_BLOCK, interleaves=True", "_BLOCK, interleaves=False"),),
        (f"{_GGUF}::test_other_architectures_compute_the_same",),
    ),
    Mutation(
        "the stretched positions of Llama 3.1 are exported",
        (("modal_app/export/architectures.py", 'if rope["rope_type"] != "llama3":', "if True:"),),
        (f"{_GGUF}::test_other_architectures_compute_the_same",),
    ),
    Mutation(
        "a template that does more than join messages is refused",
        (("modal_app/export/turns.py", "if not explained or not _joins(", "if False and not _joins("),),
        ("tests/modal_app/export/test_ollama.py::test_a_template_that_does_more_is_refused",),
    ),
    Mutation(
        "a device of this machine trains one run at a time",
        (("shared/providers/local_line.py", "fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_UN"),),
        (f"{_LOCAL}::test_one_run_trains_and_the_others_wait_in_the_order_of_their_start",),
    ),
    Mutation(
        "a run that was killed comes back to its place in the line",
        (("shared/providers/local_process.py", 'past.place if past else ""', '""'),),
        (f"{_LOCAL}::test_what_was_killed_goes_before_those_that_wait",),
    ),
    Mutation(
        "an engine that is not there is refused before anything is paid",
        (("functions/estimate_training/plan.py", "    _require_engine(options)\n", ""),),
        (
            "tests/functions/test_start_training.py"
            "::test_an_engine_that_is_not_there_is_refused_before_anything_is_paid",
        ),
    ),
    Mutation(
        "what must outlive a rented machine is kept at each checkpoint",
        (("modal_app/progress.py", "            kept()\n", ""),),
        (
            "tests/modal_app/test_remote.py"
            "::test_what_must_outlive_the_machine_is_kept_at_each_checkpoint_and_at_the_end",
        ),
    ),
    Mutation(
        "a piece of a model from Storage is proven by its sha256",
        (("shared/models/fetching.py", "        raise _damaged(path.name)\n", "        pass\n"),),
        ("tests/modal_app/test_parent.py::test_what_cannot_be_fetched_is_never_trained",),
    ),
    Mutation(
        "a model that is deleted before the run begins is not trained from",
        (("shared/jobs/parent.py", "        require_usable(model, job.method)\n", "        pass\n"),),
        ("tests/functions/test_parent_models.py::test_one_that_is_deleted_before_the_start_is_not_paid_for",),
    ),
    Mutation(
        "a deleted model stays in Storage as long as one that was trained from it lives",
        (
            (
                "supabase/migrations/20261130110000_model_sweeps.sql",
                "c.parent_model_id = m.id and c.status <> 'deleted'",
                "false",
            ),
        ),
        ("tests/functions/test_model_sweep.py::test_what_somebody_needs_stays_and_all_else_goes",),
    ),
)


def copy(to: Path) -> Path:
    """The working tree without what is built from it."""
    project = to / "project"
    shutil.copytree(ROOT, project, ignore=_LEFT_OUT)
    (project / "devstack/node/node_modules").symlink_to(ROOT / "devstack/node/node_modules")
    return project


def run(project: Path, tests: tuple[str, ...]) -> tuple[bool, str]:
    """Whether the tests pass, and the first line that says otherwise."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(
            command, cwd=project, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return False, f"no end within {_SECONDS} s"
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return done.returncode == 0, failed[0].partition(" - ")[0] if failed else done.stdout[-300:]


def mutate(project: Path, mutation: Mutation) -> None:
    """The safeguard is gone. Raises ValueError when the text to change is not there: then say so here."""
    for name, text, instead in mutation.edits:
        file = project / name
        content = file.read_text()
        if text not in content:
            raise ValueError(f"{mutation.name}: {name} does not hold {text!r} any more")
        file.write_text(content.replace(text, instead))


def main() -> int:
    """Exit code 0 when the tests pass unchanged and every mutation is caught."""
    with tempfile.TemporaryDirectory(prefix="fineflow-mutations-") as place:
        every = tuple(dict.fromkeys(test for mutation in MUTATIONS for test in mutation.tests))
        passes, why = run(copy(Path(place)), every)
        print(f"unchanged: {'all pass' if passes else why}")
    caught = 0
    for mutation in MUTATIONS:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="fineflow-mutations-") as place:
            project = copy(Path(place))
            mutate(project, mutation)
            survived, failure = run(project, mutation.tests)
        caught += not survived
        verdict = "SURVIVED" if survived else f"caught by {failure.removeprefix('FAILED ')}"
        print(f"{mutation.name:<66} {verdict}  ({time.monotonic() - started:.0f} s)", flush=True)
    print(json.dumps({"mutations": len(MUTATIONS), "caught": caught, "unchanged_passes": passes}))
    return 0 if passes and caught == len(MUTATIONS) else 1


if __name__ == "__main__":
    sys.exit(main())
