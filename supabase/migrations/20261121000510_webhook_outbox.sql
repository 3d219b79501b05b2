-- The outbox: what an endpoint is told is written with the change of the job, or not at all.

create function private.event_time() returns text
language sql set search_path = '' as $$
  select to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$$;

-- shared/webhooks/model.py says the same for job-events; a test keeps them equal.
create function private.job_event(p_type text, p_job public.training_jobs) returns jsonb
language sql set search_path = '' as $$
  select jsonb_build_object(
    'type', p_type,
    'timestamp', private.event_time(),
    'data', jsonb_build_object(
      'jobId', p_job.id, 'projectId', p_job.project_id, 'datasetId', p_job.dataset_id,
      'status', p_job.status, 'version', p_job.version,
      'progressPercent', p_job.progress_percent, 'currentStep', left(p_job.current_step, 200),
      'provider', p_job.provider, 'baseModel', left(p_job.base_model, 200),
      'modelName', p_job.model_name, 'modelId', p_job.model_id, 'costUsd', p_job.cost_usd,
      'error', case when jsonb_typeof(p_job.error) = 'object' then jsonb_build_object(
        'code', left(p_job.error ->> 'code', 100), 'message', left(p_job.error ->> 'message', 1000)) end))
$$;

-- One event for each endpoint that wants it. true: something can be sent now.
create function private.add_deliveries(p_type text, p_job public.training_jobs) returns boolean
language plpgsql set search_path = '' as $$
declare
  is_due boolean := false;
  event jsonb := private.job_event(p_type, p_job);
  id_of_event uuid := gen_random_uuid();
  endpoint uuid;
  not_before timestamptz;
begin
  for endpoint in
    select e.id from public.webhook_endpoints e
    where e.project_id = p_job.project_id and e.enabled and p_type = any (e.events)
  loop
    not_before := now();
    if p_type = 'finetune_job_progress' then
      -- Progress is never queued up: what was not sent yet is replaced, and keeps its turn.
      update public.webhook_deliveries d set payload = event, event_id = id_of_event
        where d.job_id = p_job.id and d.endpoint_id = endpoint and d.type = p_type
          and d.status = 'pending' and d.lease_token is null;
      continue when found;
      select greatest(now(), max(coalesce(last.last_attempt_at, last.created_at)) + interval '10 seconds')
        into not_before
        from (select d.last_attempt_at, d.created_at from public.webhook_deliveries d
          where d.job_id = p_job.id and d.endpoint_id = endpoint and d.type = p_type
          order by d.created_at desc limit 1) last;
    end if;
    insert into public.webhook_deliveries (endpoint_id, project_id, job_id, event_id, type, payload, next_attempt_at)
      values (endpoint, p_job.project_id, p_job.id, id_of_event, p_type, event, not_before);
    is_due := is_due or not_before <= now();
  end loop;
  return is_due;
end $$;

create function private.tell_webhooks() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  event_type text := case
    when new.status <> 'training' then 'finetune_job_' || new.status
    when old.status = 'training' then 'finetune_job_progress'
    when old.started_at is null then 'finetune_job_started' end;
begin
  if event_type is null or not exists (
    select from public.webhook_endpoints e where e.project_id = new.project_id and e.enabled
  ) then
    return null;
  end if;
  -- To tell somebody is never worth the job's own write.
  begin
    if new.status <> 'training' then
      update public.webhook_deliveries set status = 'skipped', lease_token = null, lease_expires_at = null
        where job_id = new.id and type = 'finetune_job_progress' and status = 'pending';
    end if;
    if private.add_deliveries(event_type, new) then
      perform private.call_function('deliver-webhooks', '{}');
    end if;
  exception when others then
    raise warning 'no webhook tells % of job %: %', event_type, new.id, sqlerrm;
  end;
  return null;
end $$;
create trigger tell_webhooks after update on public.training_jobs
  for each row when (
    (old.status is distinct from new.status and new.status in ('training', 'completed', 'failed', 'cancelled'))
    or (old.status = 'training' and new.status = 'training'
      and (old.progress_percent, old.current_step) is distinct from (new.progress_percent, new.current_step)))
  execute function private.tell_webhooks();
