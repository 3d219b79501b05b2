-- The atomic steps of a job. Functions call these as service_role; each is one transaction.
-- Leases, the schedule and the trainer's claim lie beside the row and not in it: a claim that finds
-- nothing new must not become a Realtime message.

create table private.training_job_control (
  job_id uuid primary key references public.training_jobs (id) on delete cascade,
  lease_token uuid,
  lease_expires_at timestamptz,
  next_poll_at timestamptz not null default now(),
  failures integer not null default 0,
  run_id uuid,
  last_report_seq integer not null default 0,
  last_report_at timestamptz
);
comment on column private.training_job_control.lease_token is 'Who may write the job now; every write carries it, 0 rows means stop.';
comment on column private.training_job_control.failures is 'Steps in a row that reached nobody; sets the backoff.';
comment on column private.training_job_control.run_id is 'The trainer that claimed the present attempt; null: none yet.';
create index training_job_control_due_idx on private.training_job_control (next_poll_at);
grant select, insert, update, delete on private.training_job_control to service_role;

create function private.add_job_control() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  insert into private.training_job_control (job_id) values (new.id);
  return null;
end $$;
create trigger add_job_control after insert on public.training_jobs
  for each row execute function private.add_job_control();

create function public.create_training_job(p_job jsonb) returns jsonb
language plpgsql set search_path = '' as $$
declare
  dataset public.training_datasets;
  job public.training_jobs;
begin
  -- The dataset row is the queue of those who start at the same time.
  select * into dataset from public.training_datasets where id = (p_job ->> 'dataset_id')::uuid for update;
  if not found then
    return jsonb_build_object('outcome', 'dataset_not_found');
  end if;
  select * into job from public.training_jobs
    where user_id = (p_job ->> 'user_id')::uuid and idempotency_key = p_job ->> 'idempotency_key';
  if found then
    return jsonb_build_object(
      'outcome', case when job.request_hash = p_job ->> 'request_hash' then 'existing' else 'key_reused' end,
      'job', to_jsonb(job));
  end if;
  if dataset.status <> 'ready' then
    return jsonb_build_object('outcome', 'dataset_not_ready', 'status', dataset.status);
  end if;
  update public.training_datasets set status = 'training' where id = dataset.id;
  insert into public.training_jobs (project_id, dataset_id, user_id, idempotency_key, request_hash, provider,
      base_model, method, model_name, training_config, timeout_seconds, estimated_cost_usd)
    values (dataset.project_id, dataset.id, (p_job ->> 'user_id')::uuid, p_job ->> 'idempotency_key',
      p_job ->> 'request_hash', p_job ->> 'provider', p_job ->> 'base_model', p_job ->> 'method',
      p_job ->> 'model_name', p_job -> 'training_config', (p_job ->> 'timeout_seconds')::integer,
      (p_job ->> 'estimated_cost_usd')::numeric)
    returning * into job;
  return jsonb_build_object('outcome', 'created', 'job', to_jsonb(job));
end $$;

create function public.claim_training_job(p_job_id uuid, p_lease_seconds integer) returns jsonb
language plpgsql set search_path = '' as $$
declare
  token uuid := gen_random_uuid();
  claimed jsonb;
begin
  update private.training_job_control c
    set lease_token = token, lease_expires_at = now() + make_interval(secs => p_lease_seconds)
    from public.training_jobs j
    where c.job_id = p_job_id and j.id = c.job_id
      and j.status not in ('completed', 'failed', 'cancelled')
      and (c.lease_expires_at is null or c.lease_expires_at < now())
    returning to_jsonb(j) || jsonb_build_object('lease_token', token, 'failures', c.failures,
      'is_overdue', coalesce(j.deadline_at < now(), false),
      'submitted_seconds_ago', extract(epoch from now() - j.submitted_at)) into claimed;
  return claimed;
end $$;
comment on function public.claim_training_job(uuid, integer) is
  'The job with a fresh lease_token; null: it has ended, or somebody else holds it.';

create function public.due_training_jobs(p_limit integer) returns setof uuid
language sql stable set search_path = '' as $$
  select c.job_id from private.training_job_control c
  join public.training_jobs j on j.id = c.job_id
  where j.status not in ('completed', 'failed', 'cancelled')
    and (c.lease_expires_at is null or c.lease_expires_at < now())
    and (c.next_poll_at <= now() or j.deadline_at < now())
  order by c.next_poll_at limit p_limit
$$;

-- One write of a claimed job: walk through p_statuses, then set what p_patch names.
-- p_release_seconds null keeps the lease; otherwise it ends and the job is due again that much later.
create function public.move_training_job(
  p_job_id uuid, p_lease_token uuid, p_statuses public.job_status[], p_patch jsonb,
  p_release_seconds double precision default null, p_failures integer default 0
) returns jsonb language plpgsql set search_path = '' as $$
declare
  job public.training_jobs;
  patched public.training_jobs;
  next_status public.job_status;
begin
  perform from private.training_job_control where job_id = p_job_id and lease_token = p_lease_token for update;
  if not found then
    return null;
  end if;
  select * into job from public.training_jobs where id = p_job_id for update;
  patched := jsonb_populate_record(job, p_patch);
  if p_patch ? 'submit' then
    patched.attempt := job.attempt + 1;
    patched.submitted_at := now();
    patched.deadline_at := coalesce(job.deadline_at, now() + make_interval(secs => job.timeout_seconds));
    update private.training_job_control set run_id = null, last_report_seq = 0 where job_id = p_job_id;
  end if;
  if patched is distinct from job then
    update public.training_jobs set
        attempt = patched.attempt, submitted_at = patched.submitted_at, deadline_at = patched.deadline_at,
        provider_job_id = patched.provider_job_id, current_step = left(patched.current_step, 200),
        progress_percent = patched.progress_percent, training_loss = patched.training_loss,
        trained_tokens = patched.trained_tokens, cost_usd = patched.cost_usd, error = patched.error,
        model_id = patched.model_id
      where id = p_job_id;
  end if;
  foreach next_status in array p_statuses loop
    update public.training_jobs set status = next_status where id = p_job_id;
  end loop;
  if p_release_seconds is not null then
    update private.training_job_control
      set lease_token = null, lease_expires_at = null, failures = p_failures,
          next_poll_at = now() + make_interval(secs => p_release_seconds)
      where job_id = p_job_id;
  end if;
  select * into job from public.training_jobs where id = p_job_id;
  return to_jsonb(job);
end $$;
comment on function public.move_training_job is 'The job as it is now; null: the lease is lost, write nothing more.';

-- The end of a good job: the model is registered and the job completed, or neither.
create function public.complete_training_job(
  p_job_id uuid, p_lease_token uuid, p_statuses public.job_status[], p_patch jsonb, p_model jsonb
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
      cost_usd, metrics, recipe)
    values (job.project_id, job.id, job.dataset_id, job.user_id, job.model_name, job.provider, job.base_model,
      job.method, p_model ->> 'provider_model_id', p_model ->> 'artifact_path',
      (p_model ->> 'artifact_bytes')::bigint, p_model ->> 'template_fingerprint',
      (p_model -> 'metrics' ->> 'training_examples')::integer, (job.training_config ->> 'epochs')::integer,
      (p_patch ->> 'cost_usd')::numeric, coalesce(p_model -> 'metrics', '{}'), coalesce(p_model -> 'recipe', '{}'))
    returning id into model_id;
  return public.move_training_job(
    p_job_id, p_lease_token, p_statuses, p_patch || jsonb_build_object('model_id', model_id), 0, 0);
end $$;

create function public.request_training_cancel(p_job_id uuid) returns jsonb
language plpgsql set search_path = '' as $$
declare
  job public.training_jobs;
begin
  select * into job from public.training_jobs where id = p_job_id for update;
  if job.status in ('completed', 'failed', 'cancelled') then
    return jsonb_build_object('outcome', 'already_ended', 'job', to_jsonb(job));
  end if;
  if job.cancel_requested_at is null then
    update public.training_jobs set cancel_requested_at = now(), current_step = 'Cancelling...'
      where id = p_job_id returning * into job;
  end if;
  update private.training_job_control set next_poll_at = now() where job_id = p_job_id;
  return jsonb_build_object('outcome', 'requested', 'job', to_jsonb(job));
end $$;

-- A trainer's messages. The first trainer of an attempt owns it; what was stored is not stored again.
create function public.report_training(p_job_id uuid, p_attempt integer, p_run_id uuid, p_reports jsonb)
returns jsonb language plpgsql set search_path = '' as $$
declare
  control private.training_job_control;
  job public.training_jobs;
  report jsonb;
  progress jsonb;
  latest jsonb;
  seq integer;
  has_result boolean := false;
begin
  select * into control from private.training_job_control where job_id = p_job_id for update;
  select * into job from public.training_jobs where id = p_job_id;
  if not found then
    return jsonb_build_object('outcome', 'job_not_found');
  end if;
  if job.attempt <> p_attempt or coalesce(control.run_id, p_run_id) <> p_run_id
     or job.status in ('pending', 'completed', 'failed', 'cancelled') then
    return jsonb_build_object('outcome', 'claim_lost', 'status', job.status);
  end if;
  for report in select value from jsonb_array_elements(p_reports) loop
    seq := (report ->> 'seq')::integer;
    continue when seq <= control.last_report_seq;
    control.last_report_seq := seq;
    has_result := has_result or report ->> 'kind' = 'result';
    progress := nullif(report -> 'progress', 'null');
    if progress is not null then
      latest := progress;
      if progress ->> 'step' is not null and progress ->> 'training_loss' is not null then
        insert into public.training_metrics (job_id, step, project_id, epoch, training_loss, validation_loss,
            learning_rate, grad_norm, trained_tokens, tokens_per_second, gpu_memory_bytes)
          values (p_job_id, (progress ->> 'step')::integer, job.project_id, (progress ->> 'epoch')::real,
            (progress ->> 'training_loss')::double precision, (progress ->> 'validation_loss')::double precision,
            (progress ->> 'learning_rate')::double precision, (progress ->> 'grad_norm')::double precision,
            (progress ->> 'trained_tokens')::bigint, (progress ->> 'tokens_per_second')::real,
            (progress ->> 'gpu_memory_bytes')::bigint)
          on conflict (job_id, step) do nothing;
      end if;
    end if;
    if report ->> 'kind' = 'event' then
      insert into public.training_job_events (job_id, project_id, type, level, message, data, report_seq)
        values (p_job_id, job.project_id, 'trainer', report ->> 'level', report ->> 'message',
          coalesce(report -> 'data', '{}'), seq)
        on conflict (job_id, report_seq) do nothing;
    end if;
  end loop;
  if latest is not null then
    update public.training_jobs j set
        progress_percent = greatest(j.progress_percent, (latest ->> 'progress_percent')::numeric),
        current_step = case when j.cancel_requested_at is null then latest ->> 'current_step' else j.current_step end,
        epoch = coalesce((latest ->> 'epoch')::real, j.epoch),
        total_epochs = coalesce((latest ->> 'total_epochs')::integer, j.total_epochs),
        step = coalesce((latest ->> 'step')::integer, j.step),
        total_steps = coalesce((latest ->> 'total_steps')::integer, j.total_steps),
        training_loss = coalesce((latest ->> 'training_loss')::double precision, j.training_loss),
        validation_loss = coalesce((latest ->> 'validation_loss')::double precision, j.validation_loss),
        learning_rate = coalesce((latest ->> 'learning_rate')::double precision, j.learning_rate),
        trained_tokens = coalesce((latest ->> 'trained_tokens')::bigint, j.trained_tokens),
        tokens_per_second = coalesce((latest ->> 'tokens_per_second')::real, j.tokens_per_second),
        gpu_memory_bytes = coalesce((latest ->> 'gpu_memory_bytes')::bigint, j.gpu_memory_bytes),
        eta_at = now() + make_interval(secs => (latest ->> 'eta_seconds')::double precision)
      where j.id = p_job_id;
  end if;
  update private.training_job_control set run_id = p_run_id, last_report_seq = control.last_report_seq,
      last_report_at = now(), next_poll_at = case when has_result then now() else next_poll_at end
    where job_id = p_job_id;
  return jsonb_build_object('outcome', 'accepted', 'accepted_seq', control.last_report_seq, 'status', job.status,
    'cancel_requested', job.cancel_requested_at is not null, 'has_result', has_result);
end $$;

revoke execute on function public.create_training_job(jsonb), public.claim_training_job(uuid, integer),
  public.due_training_jobs(integer), public.request_training_cancel(uuid),
  public.move_training_job(uuid, uuid, public.job_status[], jsonb, double precision, integer),
  public.complete_training_job(uuid, uuid, public.job_status[], jsonb, jsonb),
  public.report_training(uuid, integer, uuid, jsonb) from public, anon, authenticated;
grant execute on function public.create_training_job(jsonb), public.claim_training_job(uuid, integer),
  public.due_training_jobs(integer), public.request_training_cancel(uuid),
  public.move_training_job(uuid, uuid, public.job_status[], jsonb, double precision, integer),
  public.complete_training_job(uuid, uuid, public.job_status[], jsonb, jsonb),
  public.report_training(uuid, integer, uuid, jsonb) to service_role;
