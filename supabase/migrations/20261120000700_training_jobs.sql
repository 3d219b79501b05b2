-- The job row: what was asked, how far it is, how it ended. Realtime publishes every change of it.

create type public.job_status as enum (
  'pending',     -- -> uploading
  'uploading',   -- -> validating, or back to pending when the provider could not be reached
  'validating',  -- -> queued
  'queued',      -- -> training
  'training',    -- -> completed
  'completed',
  'failed',      -- from any of the first five
  'cancelled'    -- from any of the first five
);

create table public.training_jobs (
  id uuid primary key default gen_random_uuid(),
  project_id uuid not null references public.projects (id) on delete cascade,
  dataset_id uuid not null references public.training_datasets (id),
  user_id uuid not null references auth.users (id) on delete cascade,
  status public.job_status not null default 'pending',
  version bigint not null default 1,
  idempotency_key text not null check (length(idempotency_key) between 1 and 200),
  request_hash text not null,
  provider text not null,
  base_model text not null check (length(base_model) <= 1001),
  method text not null check (method in ('full', 'lora', 'qlora', 'dpo', 'orpo', 'kto', 'embedding')),
  model_name text not null check (length(trim(model_name)) between 1 and 120),
  training_config jsonb not null default '{}',
  provider_job_id text,
  attempt integer not null default 0,
  submitted_at timestamptz,
  cancel_requested_at timestamptz,
  timeout_seconds integer not null default 21600 check (timeout_seconds between 60 and 604800),
  deadline_at timestamptz,
  started_at timestamptz,
  finished_at timestamptz,
  progress_percent numeric(5, 2) not null default 0 check (progress_percent between 0 and 100),
  current_step text not null default 'Waiting to start',
  epoch real,
  total_epochs integer,
  step integer,
  total_steps integer,
  training_loss double precision,
  validation_loss double precision,
  learning_rate double precision,
  trained_tokens bigint,
  tokens_per_second real,
  gpu_memory_bytes bigint,
  eta_at timestamptz,
  estimated_cost_usd numeric(12, 6),
  cost_usd numeric(12, 6),
  error jsonb,
  model_id uuid,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (user_id, idempotency_key)
);
comment on column public.training_jobs.version is 'Only grows. A client keeps the row with the larger one.';
comment on column public.training_jobs.attempt is 'Create calls made to the provider; committed before each call.';
comment on column public.training_jobs.submitted_at is 'When the present attempt was committed; null: none is under way.';
comment on column public.training_jobs.cancel_requested_at is 'A wish, not a state: the provider''s answer decides how the job ends.';
comment on column public.training_jobs.deadline_at is 'Set when the first attempt is made: timeout_seconds later.';
comment on column public.training_jobs.error is 'null unless failed: {code, message}.';
create unique index training_jobs_provider_job_id_idx on public.training_jobs (provider, provider_job_id)
  where provider_job_id is not null;
create index training_jobs_project_id_idx on public.training_jobs (project_id, created_at desc);
create index training_jobs_dataset_id_idx on public.training_jobs (dataset_id);
create index training_jobs_model_id_idx on public.training_jobs (model_id);
create trigger touch_updated_at before update on public.training_jobs
  for each row execute function private.touch_updated_at();

revoke all on public.training_jobs from anon, authenticated, service_role;
grant select on public.training_jobs to authenticated;
grant select, insert, update, delete on public.training_jobs to service_role;

alter table public.training_jobs enable row level security;
create policy "members see jobs" on public.training_jobs for select to authenticated
  using (project_id in (select private.my_projects()));
