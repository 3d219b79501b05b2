-- Claims, whole batches at once, and what a claimed job may write. These replace the first versions.

drop function public.claim_training_job(uuid, integer);
drop function public.due_training_jobs(integer);
drop function public.complete_training_job(uuid, uuid, public.job_status[], jsonb, jsonb);
drop function public.move_training_job(uuid, uuid, public.job_status[], jsonb, double precision, integer);
drop function public.request_training_cancel(uuid);

alter table private.training_job_control add column trainer_result jsonb;
comment on column private.training_job_control.trainer_result is 'How the trainer of the present attempt says that it ended; null: not said.';

alter table public.training_job_events add column provider_event_id text check (length(provider_event_id) <= 200);
comment on column public.training_job_events.provider_event_id is 'The provider''s own id of this event; null: not from a provider.';
create unique index training_job_events_provider_event_id_idx
  on public.training_job_events (job_id, provider_event_id);

-- What a run has cost by the clock, in USD; null: it is not priced by time, or nobody has claimed it yet.
create function private.cost_by_time(job public.training_jobs, claimed_at timestamptz)
returns numeric language sql stable set search_path = '' as $$
  select job.usd_per_second * extract(epoch from now() - coalesce(claimed_at, job.started_at))
$$;
grant execute on function private.cost_by_time(public.training_jobs, timestamptz) to service_role;

create function public.claim_training_jobs(p_limit integer, p_lease_seconds double precision, p_job_id uuid default null)
returns jsonb language sql volatile set search_path = '' as $$
  with due as (
    -- While a provider is on trial after its failures, one job of the account speaks for all.
    select c.job_id, row_number() over (partition by b.provider, b.user_id order by c.next_poll_at) as place,
      coalesce(b.failures, 0) >= 5 as on_trial
    from private.training_job_control c
    join public.training_jobs j on j.id = c.job_id
    left join private.provider_breakers b on b.provider = j.provider and b.user_id = j.user_id
    where (p_job_id is null or c.job_id = p_job_id)
      and (p_job_id is not null or c.next_poll_at <= now())
      and j.status not in ('completed', 'failed', 'cancelled')
      and (c.lease_expires_at is null or c.lease_expires_at < now())
      and (b.open_until is null or b.open_until <= now())
    order by c.next_poll_at
    limit p_limit
  ), mine as (
    select c.job_id from private.training_job_control c
    where c.job_id in (select d.job_id from due d where not d.on_trial or d.place = 1)
      and (c.lease_expires_at is null or c.lease_expires_at < now())
    for update skip locked
  ), claimed as (
    update private.training_job_control c
      set lease_token = gen_random_uuid(), lease_expires_at = now() + make_interval(secs => p_lease_seconds)
      from mine where c.job_id = mine.job_id
      returning c.*
  ), tried as (
    update private.provider_breakers b set open_until = now() + interval '30 seconds'
      from claimed c join public.training_jobs j on j.id = c.job_id
      where b.provider = j.provider and b.user_id = j.user_id and b.failures >= 5
  )
  select coalesce(jsonb_agg(to_jsonb(j) || jsonb_build_object(
      'lease_token', c.lease_token, 'failures', c.failures, 'crashes', c.crashes, 'cursor', c.cursor,
      'trainer_ref', c.trainer_ref, 'trainer_result', c.trainer_result, 'is_claimed', c.run_id is not null,
      'is_overdue', coalesce(j.deadline_at < now(), false),
      'status_seconds', extract(epoch from now() - c.status_since),
      'submitted_seconds_ago', extract(epoch from now() - j.submitted_at),
      'cancel_seconds_ago', extract(epoch from now() - j.cancel_requested_at),
      'not_found', c.not_found,
      'not_found_seconds', coalesce(extract(epoch from now() - c.not_found_since), 0),
      'cost_so_far_usd', private.cost_by_time(j, c.claimed_at),
      'breaker_failures', coalesce((select b.failures from private.provider_breakers b
        where b.provider = j.provider and b.user_id = j.user_id), 0))
    order by c.next_poll_at), '[]')
  from claimed c join public.training_jobs j on j.id = c.job_id
$$;
comment on function public.claim_training_jobs is
  'Due jobs under a fresh lease each, the longest waiting first; with p_job_id that job alone, due or not.';

-- One write of a claimed job: walk through p_statuses, then set what p_patch names; null: the lease is lost.
-- p_release_seconds null keeps the lease; otherwise it ends and the job is due again that much later.
-- p_control: failures, crashes, not_found (true counts one more), cursor, attempt_outcome, sweep_after_seconds.
-- p_history: events and metrics that the provider told of, each stored once.
create function public.move_training_job(
  p_job_id uuid, p_lease_token uuid, p_statuses public.job_status[], p_patch jsonb default '{}',
  p_release_seconds double precision default null, p_control jsonb default '{}', p_history jsonb default '{}'
) returns jsonb language plpgsql set search_path = '' as $$
declare
  control private.training_job_control;
  job public.training_jobs;
  patched public.training_jobs;
  next_status public.job_status;
begin
  select * into control from private.training_job_control
    where job_id = p_job_id and lease_token = p_lease_token for update;
  if not found then
    return null;
  end if;
  select * into job from public.training_jobs where id = p_job_id for update;
  if p_statuses = '{pending}' and control.run_id is not null and p_control ->> 'attempt_outcome' = 'not_found' then
    -- A trainer claimed the attempt while it was being given up: it is not given up.
    p_statuses := '{}';
    p_patch := '{}';
    p_control := p_control - 'attempt_outcome';
  end if;
  patched := jsonb_populate_record(job, p_patch);
  if p_patch ? 'submit' then
    patched.attempt := job.attempt + 1;
    patched.submitted_at := now();
    patched.deadline_at := coalesce(job.deadline_at, now() + make_interval(secs => job.timeout_seconds));
    update private.training_job_control
      set run_id = null, last_report_seq = 0, trainer_ref = null, trainer_result = null, claimed_at = null,
        cursor = null
      where job_id = p_job_id;
    update private.provider_attempts set next_sweep_at = 'infinity' where job_id = p_job_id;
    insert into private.provider_attempts (job_id, attempt, provider, user_id, next_sweep_at)
      values (p_job_id, patched.attempt, job.provider, job.user_id,
        now() + make_interval(secs => (p_control ->> 'sweep_after_seconds')::double precision));
  end if;
  if patched is distinct from job then
    update public.training_jobs set
        attempt = patched.attempt, submitted_at = patched.submitted_at, deadline_at = patched.deadline_at,
        provider_job_id = patched.provider_job_id, current_step = left(patched.current_step, 200),
        progress_percent = greatest(job.progress_percent, patched.progress_percent),
        epoch = patched.epoch, step = patched.step, total_steps = patched.total_steps,
        training_loss = patched.training_loss, validation_loss = patched.validation_loss,
        trained_tokens = patched.trained_tokens, cost_usd = patched.cost_usd, error = patched.error,
        model_id = patched.model_id, cancel_requested_at = patched.cancel_requested_at,
        stop_reason = patched.stop_reason
      where id = p_job_id;
  end if;
  perform private.add_job_history(job, p_history);
  foreach next_status in array p_statuses loop
    update public.training_jobs set status = next_status where id = p_job_id;
  end loop;
  if p_control ? 'sweep_after_seconds' and not p_patch ? 'submit' then
    update private.provider_attempts
      set next_sweep_at = now() + make_interval(secs => (p_control ->> 'sweep_after_seconds')::double precision)
      where job_id = p_job_id and attempt = patched.attempt;
  end if;
  if p_control ? 'attempt_outcome' then
    update private.provider_attempts set
        outcome = p_control ->> 'attempt_outcome', provider_job_id = patched.provider_job_id,
        -- Surely no run of this attempt; one of an earlier attempt may still come.
        next_sweep_at = case when p_control ->> 'attempt_outcome' = 'refused' and not exists (
            select from private.provider_attempts earlier where earlier.job_id = p_job_id
              and earlier.attempt < patched.attempt and earlier.outcome <> 'refused')
          then 'infinity' else next_sweep_at end
      where job_id = p_job_id and attempt = patched.attempt;
  end if;
  if p_release_seconds is not null then
    update private.training_job_control set
        lease_token = null, lease_expires_at = null,
        next_poll_at = case when next_poll_at = 'infinity' then next_poll_at
          else now() + make_interval(secs => p_release_seconds) end,
        failures = coalesce((p_control ->> 'failures')::integer, 0),
        crashes = coalesce((p_control ->> 'crashes')::integer, 0),
        cursor = coalesce(p_control ->> 'cursor', cursor),
        not_found = case when (p_control ->> 'not_found')::boolean then not_found + 1 else 0 end,
        not_found_since = case when (p_control ->> 'not_found')::boolean then coalesce(not_found_since, now()) end
      where job_id = p_job_id;
  end if;
  select * into job from public.training_jobs where id = p_job_id;
  return to_jsonb(job);
end $$;

create function private.add_job_history(job public.training_jobs, history jsonb) returns void
language plpgsql set search_path = '' as $$
begin
  if history ? 'events' then
    insert into public.training_job_events (job_id, project_id, type, level, message, data, provider_event_id)
      select job.id, job.project_id, 'provider', e ->> 'level', left(e ->> 'message', 2000),
        coalesce(e -> 'data', '{}'), e ->> 'id'
      from jsonb_array_elements(history -> 'events') e
      on conflict (job_id, provider_event_id) do nothing;
  end if;
  if history ? 'metrics' then
    insert into public.training_metrics (job_id, step, project_id, epoch, training_loss, validation_loss, learning_rate)
      select distinct on ((m ->> 'step')::integer) job.id, (m ->> 'step')::integer, job.project_id, (m ->> 'epoch')::real,
        (m ->> 'training_loss')::double precision, (m ->> 'validation_loss')::double precision,
        (m ->> 'learning_rate')::double precision
      from jsonb_array_elements(history -> 'metrics') m
      on conflict (job_id, step) do nothing;
  end if;
end $$;
grant execute on function private.add_job_history(public.training_jobs, jsonb) to service_role;

-- The end of a good job: the model is registered and the job completed, or neither.
create function public.complete_training_job(
  p_job_id uuid, p_lease_token uuid, p_statuses public.job_status[], p_patch jsonb, p_model jsonb,
  p_history jsonb default '{}'
) returns jsonb language plpgsql set search_path = '' as $$
declare
  job public.training_jobs;
  model_id uuid;
begin
  perform from private.training_job_control where job_id = p_job_id and lease_token = p_lease_token for update;
  if not found then
    return null;
  end if;
  select * into job from public.training_jobs where id = p_job_id for update;
  insert into public.fine_tuned_models (project_id, job_id, dataset_id, created_by, name, provider, base_model,
      method, provider_model_id, artifact_path, artifact_bytes, template_fingerprint, training_examples, epochs,
      cost_usd, shutdown_date, metrics, recipe)
    values (job.project_id, job.id, job.dataset_id, job.user_id, job.model_name, job.provider, job.base_model,
      job.method, p_model ->> 'provider_model_id', p_model ->> 'artifact_path',
      (p_model ->> 'artifact_bytes')::bigint, p_model ->> 'template_fingerprint',
      (p_model -> 'metrics' ->> 'training_examples')::integer, (job.training_config ->> 'epochs')::integer,
      (p_patch ->> 'cost_usd')::numeric, (p_model ->> 'shutdown_date')::date,
      coalesce(p_model -> 'metrics', '{}'), coalesce(p_model -> 'recipe', '{}'))
    returning id into model_id;
  return public.move_training_job(
    p_job_id, p_lease_token, p_statuses, p_patch || jsonb_build_object('model_id', model_id), 0, '{}', p_history);
end $$;

-- Gives back claims that found nothing new: [{job_id, lease_token, release_seconds}]. No row of a client changes.
create function public.release_training_jobs(p_releases jsonb) returns integer
language plpgsql set search_path = '' as $$
declare
  released integer;
begin
  update private.training_job_control c set
      lease_token = null, lease_expires_at = null, failures = 0, crashes = 0, not_found = 0, not_found_since = null,
      next_poll_at = case when c.next_poll_at = 'infinity' then c.next_poll_at
        else now() + make_interval(secs => r.release_seconds) end
    from jsonb_to_recordset(p_releases) as r (job_id uuid, lease_token uuid, release_seconds double precision)
    where c.job_id = r.job_id and c.lease_token = r.lease_token;
  get diagnostics released = row_count;
  return released;
end $$;

create function public.request_training_cancel(p_job_id uuid, p_reason text default 'user') returns jsonb
language plpgsql set search_path = '' as $$
declare
  job public.training_jobs;
begin
  perform from private.training_job_control where job_id = p_job_id for update;
  select * into job from public.training_jobs where id = p_job_id for update;
  if job.status in ('completed', 'failed', 'cancelled') then
    return jsonb_build_object('outcome', 'already_ended', 'job', to_jsonb(job));
  end if;
  if job.cancel_requested_at is null then
    update public.training_jobs
      set cancel_requested_at = now(), stop_reason = p_reason, current_step = 'Cancelling...'
      where id = p_job_id returning * into job;
  end if;
  update private.training_job_control set next_poll_at = now() where job_id = p_job_id;
  return jsonb_build_object('outcome', 'requested', 'job', to_jsonb(job));
end $$;

-- A hint that a job has news: the next look comes at once.
create function public.hint_training_job(p_job_id uuid) returns boolean
language plpgsql set search_path = '' as $$
begin
  update private.training_job_control set next_poll_at = now() where job_id = p_job_id and next_poll_at < 'infinity';
  return found;
end $$;

revoke execute on function public.claim_training_jobs(integer, double precision, uuid),
  public.move_training_job(uuid, uuid, public.job_status[], jsonb, double precision, jsonb, jsonb),
  public.complete_training_job(uuid, uuid, public.job_status[], jsonb, jsonb, jsonb),
  public.release_training_jobs(jsonb), public.request_training_cancel(uuid, text),
  public.hint_training_job(uuid) from public, anon, authenticated;
grant execute on function public.claim_training_jobs(integer, double precision, uuid),
  public.move_training_job(uuid, uuid, public.job_status[], jsonb, double precision, jsonb, jsonb),
  public.complete_training_job(uuid, uuid, public.job_status[], jsonb, jsonb, jsonb),
  public.release_training_jobs(jsonb), public.request_training_cancel(uuid, text),
  public.hint_training_job(uuid) to service_role;
