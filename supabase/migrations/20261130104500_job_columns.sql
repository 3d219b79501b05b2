-- A job is made of whatever columns it is given, as far as the service may set them. A new column that is known when
-- a job starts is granted here below by the migration that adds it, and nothing else is made anew.

revoke insert on public.training_jobs from service_role;
grant insert (project_id, dataset_id, user_id, idempotency_key, request_hash, provider, base_model, base_revision,
    method, model_name, training_config, timeout_seconds, gpu, gpu_count, estimated_cost_usd, reserved_usd, spend_cap_usd,
    usd_per_second, usd_per_million_tokens)
  on public.training_jobs to service_role;

-- Outcomes: created (with `warnings`), existing, key_reused, dataset_not_ready, dataset_not_found, and of a
-- budget that blocks: budget_exceeded, cost_unknown. All that reached the budget carry it as `budget`.
create or replace function public.create_training_job(p_job jsonb) returns jsonb
language plpgsql set search_path = '' as $$
declare
  dataset public.training_datasets;
  job public.training_jobs;
  standing jsonb;
  held_usd numeric := least(
    coalesce(p_job ->> 'reserved_usd', p_job ->> 'estimated_cost_usd')::numeric,
    (p_job ->> 'spend_cap_usd')::numeric);
  asked jsonb;
  given text;
  objection text;
  warnings jsonb := '[]';
begin
  -- The project row is the queue of all who would spend from its budget, the dataset row that of all who
  -- would train on it. Always in this order, which is also the order of deleting a project.
  perform from public.projects where id = (
    select project_id from public.training_datasets where id = (p_job ->> 'dataset_id')::uuid) for no key update;
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
  standing := public.budget_standing(dataset.project_id);
  objection := private.budget_objection(standing, held_usd);
  if objection is not null and standing ->> 'enforcement' = 'block' then
    return jsonb_build_object('outcome', objection, 'budget', standing, 'held_usd', held_usd);
  end if;
  update public.training_datasets set status = 'training' where id = dataset.id;
  asked := p_job || jsonb_build_object('project_id', dataset.project_id, 'reserved_usd', held_usd);
  -- Columns that are not given have their defaults.
  select string_agg(quote_ident(key), ', ') into given from jsonb_each(asked) where value <> 'null';
  execute format('insert into public.training_jobs (%1$s) select %1$s'
      ' from jsonb_populate_record(null::public.training_jobs, $1) returning *', given)
    into job using asked;
  if objection is not null then
    warnings := jsonb_build_array(case objection
      when 'cost_unknown' then 'What this job will cost is not known, so the budget of the project cannot count it.'
      else format('With this job the project goes over its budget: %s USD left this month, up to %s USD needed.',
        round((standing ->> 'remaining_usd')::numeric, 2), round(held_usd, 2)) end);
    insert into public.training_job_events (job_id, project_id, type, level, message, data)
      values (job.id, job.project_id, 'budget', 'warning', warnings ->> 0,
        standing || jsonb_build_object('held_usd', held_usd));
  end if;
  return jsonb_build_object(
    'outcome', 'created', 'job', to_jsonb(job), 'budget', standing, 'held_usd', held_usd, 'warnings', warnings);
end $$;
