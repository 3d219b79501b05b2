-- What happened to a job, append-only, and its numbers per step. Not published to Realtime.

create table public.training_job_events (
  id bigint generated always as identity primary key,
  job_id uuid not null references public.training_jobs (id) on delete cascade,
  project_id uuid not null references public.projects (id) on delete cascade,
  type text not null check (length(type) <= 60),
  level text not null default 'info' check (level in ('info', 'warning', 'error')),
  message text not null check (length(message) <= 2000),
  data jsonb not null default '{}',
  report_seq integer,
  created_at timestamptz not null default now(),
  unique (job_id, report_seq)
);
comment on column public.training_job_events.report_seq is 'The trainer''s own number of this event; null: not from a trainer.';
create index training_job_events_job_id_idx on public.training_job_events (job_id, id);
create index training_job_events_project_id_idx on public.training_job_events (project_id);

create table public.training_metrics (
  job_id uuid not null references public.training_jobs (id) on delete cascade,
  step integer not null check (step >= 0),
  project_id uuid not null references public.projects (id) on delete cascade,
  epoch real,
  training_loss double precision,
  validation_loss double precision,
  learning_rate double precision,
  grad_norm double precision,
  trained_tokens bigint,
  tokens_per_second real,
  gpu_memory_bytes bigint,
  created_at timestamptz not null default now(),
  primary key (job_id, step)
);
create index training_metrics_project_id_idx on public.training_metrics (project_id);

revoke all on public.training_job_events, public.training_metrics from anon, authenticated, service_role;
grant select on public.training_job_events, public.training_metrics to authenticated;
grant select, insert on public.training_job_events, public.training_metrics to service_role;

alter table public.training_job_events enable row level security;
alter table public.training_metrics enable row level security;
create policy "members see job events" on public.training_job_events for select to authenticated
  using (project_id in (select private.my_projects()));
create policy "members see job metrics" on public.training_metrics for select to authenticated
  using (project_id in (select private.my_projects()));

create function private.record_job_status() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  insert into public.training_job_events (job_id, project_id, type, level, message, data)
  values (
    new.id, new.project_id, 'status',
    case when new.status = 'failed' then 'error' else 'info' end,
    left(coalesce(new.error ->> 'message', new.current_step), 2000),
    jsonb_strip_nulls(jsonb_build_object(
      'from', case when tg_op = 'UPDATE' then old.status end, 'to', new.status, 'attempt', new.attempt,
      'code', new.error ->> 'code'))
  );
  return null;
end $$;
create trigger record_new_job after insert on public.training_jobs
  for each row execute function private.record_job_status();
create trigger record_job_status after update of status on public.training_jobs
  for each row when (old.status is distinct from new.status) execute function private.record_job_status();
