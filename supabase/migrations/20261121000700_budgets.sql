-- What a project may spend in a month, and what one run may: checked where the job row is made, so that
-- any number of starts at the same time cannot pass a budget together.

alter table public.training_jobs add column reserved_usd numeric(12, 6) check (reserved_usd >= 0);
comment on column public.training_jobs.reserved_usd is
  'What the budget holds back until the job has ended: the upper end of its estimate, at most its spend cap; null: not known.';

-- The month is that of UTC. Spent: what the jobs that ended in it cost; where a completed one does not say, its
-- estimate. Reserved: of each job under way, what it holds back or has cost already, whichever is more.
-- Projected: spent at the same rate to the end of the month (a month's first day counts as whole), and the reserved.
create function public.budget_standing(p_project_id uuid) returns jsonb
language sql stable set search_path = '' as $$
  with clock as (
    select date_trunc('month', now() at time zone 'UTC') as month, now() at time zone 'UTC' as today
  ), days as (
    select month, greatest(extract(epoch from today - month) / 86400, 1) as passed,
      extract(epoch from month + interval '1 month' - month) / 86400 as whole
    from clock
  ), sums as (
    select
      coalesce(sum(coalesce(cost_usd, case when status = 'completed' then estimated_cost_usd end))
        filter (where finished_at is not null), 0) as spent,
      coalesce(sum(greatest(reserved_usd, cost_usd, 0)) filter (where finished_at is null), 0) as reserved
    from public.training_jobs
    where project_id = p_project_id
      and (finished_at is null or finished_at >= (select month at time zone 'UTC' from days))
  )
  select jsonb_build_object(
    'month_start', to_char(month, 'YYYY-MM-DD'), 'budget_usd', p.monthly_budget_usd,
    'enforcement', p.budget_enforcement, 'spent_usd', spent, 'reserved_usd', reserved,
    'projected_month_usd', round(spent * whole / passed + reserved, 6),
    'remaining_usd', p.monthly_budget_usd - spent - reserved)
  from public.projects p, days, sums where p.id = p_project_id
$$;
comment on function public.budget_standing(uuid) is
  'Of the present month, in USD; budget_usd and remaining_usd are null where no budget is set. null: no such project, or not a member.';
revoke execute on function public.budget_standing(uuid) from public, anon;
grant execute on function public.budget_standing(uuid) to authenticated, service_role;

-- What a budget says to a job that holds back so much; null: nothing.
create function private.budget_objection(standing jsonb, held_usd numeric) returns text
language sql immutable set search_path = '' as $$
  select case
    when standing ->> 'enforcement' = 'off' or standing ->> 'budget_usd' is null then null
    when held_usd is null then 'cost_unknown'
    -- A job that costs nothing passes a budget that is used up.
    when held_usd > 0 and held_usd > (standing ->> 'remaining_usd')::numeric then 'budget_exceeded'
  end
$$;
grant execute on function private.budget_objection(jsonb, numeric) to service_role;

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
  insert into public.training_jobs (project_id, dataset_id, user_id, idempotency_key, request_hash, provider,
      base_model, method, model_name, training_config, timeout_seconds, gpu, estimated_cost_usd, reserved_usd,
      spend_cap_usd, usd_per_second, usd_per_million_tokens)
    values (dataset.project_id, dataset.id, (p_job ->> 'user_id')::uuid, p_job ->> 'idempotency_key',
      p_job ->> 'request_hash', p_job ->> 'provider', p_job ->> 'base_model', p_job ->> 'method',
      p_job ->> 'model_name', p_job -> 'training_config', (p_job ->> 'timeout_seconds')::integer,
      p_job ->> 'gpu', (p_job ->> 'estimated_cost_usd')::numeric, held_usd,
      (p_job ->> 'spend_cap_usd')::numeric, (p_job ->> 'usd_per_second')::numeric,
      (p_job ->> 'usd_per_million_tokens')::numeric)
    returning * into job;
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

-- A run that has cost its cap is asked to stop, whoever writes the cost. Not one that has just ended: its
-- last write carries a model or an error.
create function private.stop_at_spend_cap() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  new.cancel_requested_at := now();
  new.stop_reason := 'spend_cap';
  new.current_step := format('Stopping: %s USD spent, and %s is the most for this run',
    round(new.cost_usd, 2), round(new.spend_cap_usd, 2));
  return new;
end $$;
create trigger stop_at_spend_cap before update of cost_usd on public.training_jobs
  for each row when (new.cost_usd >= new.spend_cap_usd and new.cancel_requested_at is null
    and new.status not in ('completed', 'failed', 'cancelled') and new.model_id is null and new.error is null)
  execute function private.stop_at_spend_cap();

create function private.look_at_capped_job() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  update private.training_job_control set next_poll_at = now() where job_id = new.id and next_poll_at < 'infinity';
  insert into public.training_job_events (job_id, project_id, type, level, message, data)
    values (new.id, new.project_id, 'spend_cap', 'warning', new.current_step,
      jsonb_build_object('cost_usd', new.cost_usd, 'spend_cap_usd', new.spend_cap_usd));
  return null;
end $$;
create trigger look_at_capped_job after update of cost_usd on public.training_jobs
  for each row when (old.stop_reason is distinct from new.stop_reason and new.stop_reason = 'spend_cap')
  execute function private.look_at_capped_job();
