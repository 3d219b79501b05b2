-- What is remembered about calls to providers, so that none is paid twice: what was asked, which account
-- is out of order, and when to look for runs that nobody asked for.

alter table public.training_jobs
  add column gpu text check (length(gpu) <= 40),
  add column stop_reason text check (stop_reason in ('user', 'deadline', 'spend_cap')),
  add column spend_cap_usd numeric(12, 6) check (spend_cap_usd > 0),
  add column usd_per_second numeric(14, 10) check (usd_per_second >= 0),
  add column usd_per_million_tokens numeric(12, 6) check (usd_per_million_tokens >= 0);
comment on column public.training_jobs.gpu is 'As the provider names it; null: its default.';
comment on column public.training_jobs.stop_reason is 'Who asked for the stop; null: nobody. Only ''user'' ends as cancelled, the others as failed.';
comment on column public.training_jobs.spend_cap_usd is 'A run that costs this much is stopped at a checkpoint; null: no cap.';
comment on column public.training_jobs.usd_per_second is 'What the run costs while it runs; null: not priced by time.';
comment on column public.training_jobs.usd_per_million_tokens is 'What a trained token costs; null: not priced by tokens.';

alter table private.training_job_control
  add column status_since timestamptz not null default now(),
  add column claimed_at timestamptz,
  add column trainer_ref text,
  add column cursor text,
  add column crashes integer not null default 0,
  add column not_found integer not null default 0,
  add column not_found_since timestamptz;
comment on column private.training_job_control.claimed_at is 'When the first trainer of the present attempt claimed it; its clock runs the cost.';
comment on column private.training_job_control.trainer_ref is 'The provider''s id of the run, as its trainer says; null: not said.';
comment on column private.training_job_control.cursor is 'The last event that the provider told us of.';
comment on column private.training_job_control.crashes is 'Steps in a row that ended in an error of our own.';
comment on column private.training_job_control.not_found is 'Polls in a row that the provider answered with 404, since not_found_since.';

-- An ended job is never due again, and costs the search for due ones nothing.
create function private.follow_job_status() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  update private.training_job_control set
      status_since = now(),
      next_poll_at = case when new.status in ('completed', 'failed', 'cancelled') then 'infinity' else next_poll_at end
    where job_id = new.id;
  return null;
end $$;
create trigger follow_job_status after update of status on public.training_jobs
  for each row when (old.status is distinct from new.status) execute function private.follow_job_status();

-- The ledger: one row a create call, written before the call. It outlives its job, so that a run whose
-- job was deleted is still found and stopped.
create table private.provider_attempts (
  job_id uuid not null,
  attempt integer not null,
  provider text not null,
  user_id uuid not null,
  submitted_at timestamptz not null default now(),
  outcome text not null default 'unknown' check (outcome in ('unknown', 'bound', 'refused', 'not_found')),
  provider_job_id text,
  sweeps integer not null default 0,
  next_sweep_at timestamptz not null,
  extra_runs integer not null default 0,
  lease_expires_at timestamptz,
  primary key (job_id, attempt)
);
comment on column private.provider_attempts.outcome is 'refused: surely no run. not_found: none was seen within the grace; one may still come.';
comment on column private.provider_attempts.sweeps is 'How often extra runs were looked for; next_sweep_at is infinity after the last time.';
comment on column private.provider_attempts.extra_runs is 'Runs that were found and stopped beside the one that the job has.';
create index provider_attempts_due_idx on private.provider_attempts (next_sweep_at) where next_sweep_at < 'infinity';
grant select, insert, update on private.provider_attempts to service_role;

-- A job that is deleted while its run goes on leaves the run to the sweeper.
create function private.sweep_deleted_job() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  update private.provider_attempts set sweeps = 0, next_sweep_at = now()
    where job_id = old.id and outcome <> 'refused';
  return old;
end $$;
create trigger sweep_deleted_job before delete on public.training_jobs
  for each row when (old.status not in ('completed', 'failed', 'cancelled'))
  execute function private.sweep_deleted_job();

-- A provider that fails for one account is left alone for a while, with all jobs of that account there.
create table private.provider_breakers (
  provider text not null,
  user_id uuid not null,
  failures integer not null default 0,
  open_until timestamptz not null,
  primary key (provider, user_id)
);
comment on column private.provider_breakers.failures is 'In a row. From five on the account is left alone; then one job tries for all.';
grant select, insert, update, delete on private.provider_breakers to service_role;
