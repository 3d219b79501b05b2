-- What was estimated of a run and what was observed, so that later estimates are the better for it.

create table public.estimate_calibrations (
  job_id uuid primary key references public.training_jobs (id) on delete cascade,
  project_id uuid not null references public.projects (id) on delete cascade,
  provider text not null check (length(provider) <= 40),
  gpu text not null check (length(gpu) <= 40),
  method text not null check (method in ('full', 'lora', 'qlora', 'dpo', 'orpo', 'kto', 'embedding')),
  size_class integer not null check (size_class between 0 and 64),
  expected_seconds double precision not null check (expected_seconds > 0),
  expected_memory_bytes bigint check (expected_memory_bytes > 0),
  duration_ratio double precision check (duration_ratio > 0),
  memory_ratio double precision check (memory_ratio > 0),
  observed_at timestamptz
);
comment on column public.estimate_calibrations.gpu is 'As the provider names it; cpu: this machine.';
comment on column public.estimate_calibrations.size_class is 'Logarithm to base 2 of the parameters of the base model, rounded.';
comment on column public.estimate_calibrations.expected_seconds is 'Of the trainer, by the formulas alone: the middle.';
comment on column public.estimate_calibrations.expected_memory_bytes is 'As the trainer''s libraries count it; null: it does not tell.';
comment on column public.estimate_calibrations.duration_ratio is 'Observed over expected; null: not observed, or not to be compared.';
comment on column public.estimate_calibrations.observed_at is 'When the run was completed; null: it was not.';
create index estimate_calibrations_project_id_idx on public.estimate_calibrations (project_id);
create index estimate_calibrations_observed_idx
  on public.estimate_calibrations (provider, gpu, method, size_class, observed_at desc) where observed_at is not null;

revoke all on public.estimate_calibrations from anon, authenticated, service_role;
grant select on public.estimate_calibrations to authenticated;
grant select, insert, update, delete on public.estimate_calibrations to service_role;

alter table public.estimate_calibrations enable row level security;
create policy "members see how well runs were estimated" on public.estimate_calibrations for select to authenticated
  using (project_id in (select private.my_projects()));

-- What is expected of a job is written once, when it is made. Until its trainer says more it is also its ETA.
create function public.expect_training_job(p_job_id uuid, p_expected jsonb) returns boolean
language plpgsql set search_path = '' as $$
begin
  insert into public.estimate_calibrations (job_id, project_id, provider, gpu, method, size_class, expected_seconds,
      expected_memory_bytes)
    select j.id, j.project_id, j.provider, p_expected ->> 'gpu', j.method, (p_expected ->> 'size_class')::integer,
      (p_expected ->> 'seconds')::double precision, (p_expected ->> 'memory_bytes')::bigint
    from public.training_jobs j where j.id = p_job_id
    on conflict (job_id) do nothing;
  if not found then
    return false;
  end if;
  update public.training_jobs
    set eta_at = now() + make_interval(secs => (p_expected ->> 'ends_in_seconds')::double precision)
    where id = p_job_id and eta_at is null and status in ('pending', 'uploading', 'validating', 'queued');
  return true;
end $$;

-- In the transaction that completes the job. Left out is what says nothing of the formulas: a run that was started
-- twice or went on after an interruption, and the time of one that ended early.
create function private.observe_estimate() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  control private.training_job_control;
  seconds double precision;
  waited double precision;
begin
  select * into control from private.training_job_control where job_id = new.id;
  waited := extract(epoch from new.finished_at - coalesce(control.claimed_at, new.started_at));
  seconds := (control.trainer_result ->> 'duration_seconds')::double precision;
  if new.attempt > 1 or waited > 2 * seconds + 120 then
    return null;
  end if;
  -- A trainer may say anything, and a job must complete all the same.
  if control.trainer_result -> 'metrics' ->> 'stopped_early' = 'true' or not seconds between 0.1 and 1e7 then
    seconds := null;
  end if;
  update public.estimate_calibrations set
      duration_ratio = seconds / expected_seconds,
      memory_ratio = nullif(new.gpu_memory_bytes, 0)::double precision / expected_memory_bytes,
      observed_at = now()
    where job_id = new.id;
  return null;
end $$;
create trigger observe_estimate after update of status on public.training_jobs
  for each row when (new.status = 'completed' and old.status <> 'completed')
  execute function private.observe_estimate();

-- The latest runs of each method and size on each GPU, newest first: those of the project, and of each other
-- project three at most, so that nobody alone decides what others are told.
create function public.past_estimates(p_project_id uuid, p_runs integer default 20) returns jsonb
language sql stable set search_path = '' as $$
  with seen as (
    select c.*, row_number() over (
        partition by provider, gpu, method, size_class, project_id order by observed_at desc, job_id) as place
    from public.estimate_calibrations c where observed_at is not null
  ), latest as (
    select s.*, row_number() over (
        partition by provider, gpu, method, size_class order by observed_at desc, job_id) as place_of_all
    from seen s where project_id = p_project_id or place <= 3
  ), groups as (
    select provider, gpu, method, size_class, jsonb_agg(jsonb_build_object(
        'duration_ratio', duration_ratio, 'memory_ratio', memory_ratio) order by place_of_all) as runs
    from latest where place_of_all <= p_runs group by provider, gpu, method, size_class
  )
  select coalesce(jsonb_agg(to_jsonb(g) order by provider, gpu, method, size_class), '[]') from groups g
$$;

revoke execute on function public.expect_training_job(uuid, jsonb), public.past_estimates(uuid, integer)
  from public, anon, authenticated;
grant execute on function public.expect_training_job(uuid, jsonb), public.past_estimates(uuid, integer) to service_role;
revoke execute on function private.observe_estimate() from public, anon, authenticated;
