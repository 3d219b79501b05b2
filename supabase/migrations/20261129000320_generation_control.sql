-- The steps of pair generation, within a spend cap and until somebody stops it. They replace those of
-- 20261120001400_generation_steps.sql.

create or replace function public.create_generated_dataset(p_dataset jsonb, p_chunk_ids uuid[]) returns jsonb
language plpgsql set search_path = '' as $$
declare
  dataset public.training_datasets;
begin
  insert into public.training_datasets (project_id, created_by, name, format, mode, system_prompt, document_ids,
      source, status, generation, chunk_count, max_cost_usd, chunk_cost_usd)
    values ((p_dataset ->> 'project_id')::uuid, (p_dataset ->> 'created_by')::uuid, p_dataset ->> 'name',
      p_dataset ->> 'format', p_dataset ->> 'mode', p_dataset ->> 'system_prompt',
      (select array_agg(value::uuid) from jsonb_array_elements_text(nullif(p_dataset -> 'document_ids', 'null'))),
      'documents', 'generating', p_dataset -> 'generation', cardinality(p_chunk_ids),
      (p_dataset ->> 'max_cost_usd')::numeric, (p_dataset ->> 'chunk_cost_usd')::numeric)
    returning * into dataset;
  insert into public.dataset_chunks (dataset_id, chunk_id, project_id, ordinal)
    select dataset.id, c.id, dataset.project_id, c.position::integer
    from unnest(p_chunk_ids) with ordinality as c (id, position);
  return to_jsonb(dataset);
end $$;

-- In somebody's hands, or in a batch; a chunk that waits to be tried again is in nobody's.
create function private.chunks_in_hand(p_dataset_id uuid) returns bigint
language sql stable set search_path = '' as $$
  select count(*) from public.dataset_chunks w
  where w.dataset_id = p_dataset_id and w.status = 'working'
    and (w.batch_id is not null or (w.lease_token is not null and w.lease_expires_at > now()))
$$;

-- How many chunks may be begun within the cap; null: there is none. Whoever asks holds the row of the dataset.
create function private.affordable_chunks(dataset public.training_datasets) returns integer
language sql stable set search_path = '' as $$
  select case when dataset.max_cost_usd is not null and dataset.chunk_cost_usd is distinct from 0 then
    -- What is not known could be anything.
    (coalesce(floor((dataset.max_cost_usd - dataset.cost_usd) / dataset.chunk_cost_usd), 0)
      - private.chunks_in_hand(dataset.id))::integer
  end
$$;

create function private.stop_at_cap(p_dataset_id uuid) returns void
language plpgsql set search_path = '' as $$
begin
  if private.chunks_in_hand(p_dataset_id) = 0 and not public.is_generation_over(p_dataset_id) then
    update public.training_datasets set stop_requested_at = now(), stop_reason = 'spend_cap' where id = p_dataset_id;
  end if;
end $$;

create or replace function public.claim_dataset_chunks(p_dataset_id uuid, p_limit integer, p_lease_seconds integer)
returns jsonb language plpgsql set search_path = '' as $$
declare
  most_attempts constant integer := 10; -- a chunk whose workers die each time does not keep the dataset open
  dataset public.training_datasets;
  is_batch boolean;
  affordable integer := p_limit;
  given_up integer;
  claimed jsonb;
begin
  -- With a cap, claims are made one after the other: what each may cost is held back.
  select * into dataset from public.training_datasets
    where id = p_dataset_id and max_cost_usd is not null for no key update;
  if not found then
    select * into dataset from public.training_datasets where id = p_dataset_id;
  end if;
  is_batch := coalesce((dataset.generation ->> 'batch')::boolean, false);
  -- What a batch has answered is paid for, so pairs are made of it whatever was asked for since.
  if dataset.id is null or dataset.status <> 'generating' or (dataset.stop_requested_at is not null and not is_batch) then
    return '[]';
  end if;
  if not is_batch then
    affordable := coalesce(private.affordable_chunks(dataset), p_limit);
    if affordable <= 0 then
      perform private.stop_at_cap(p_dataset_id);
    end if;
  end if;
  update public.dataset_chunks set status = 'failed', lease_token = null, lease_expires_at = null,
      error = coalesce(error, jsonb_build_object('code', 'worker_died', 'message',
        format('Whoever worked on this chunk died, %s times.', attempts)))
    where dataset_id = p_dataset_id and status = 'working' and lease_expires_at < now() and attempts >= most_attempts;
  get diagnostics given_up = row_count;
  if given_up > 0 then
    update public.training_datasets set chunks_failed = chunks_failed + given_up where id = p_dataset_id;
  end if;
  with open_work as (
    select w.id from public.dataset_chunks w
    where w.dataset_id = p_dataset_id
      and (w.status = 'pending' or (w.status = 'working' and w.lease_expires_at < now()))
      and (w.is_answered or not is_batch)
    order by w.ordinal limit greatest(least(p_limit, affordable), 0) for update skip locked
  ), work as (
    update public.dataset_chunks w
      set status = 'working', attempts = w.attempts + 1, lease_token = gen_random_uuid(),
          lease_expires_at = now() + make_interval(secs => p_lease_seconds), updated_at = now()
      from open_work o where w.id = o.id returning w.*
  )
  select coalesce(jsonb_agg(jsonb_build_object(
      'id', w.id, 'lease_token', w.lease_token, 'attempts', w.attempts, 'ordinal', w.ordinal, 'variant', w.variant,
      'chunk_id', k.id, 'document_id', k.document_id, 'content', k.content, 'char_start', k.char_start,
      'char_end', k.char_end, 'heading_path', k.heading_path, 'injection_flags', k.injection_flags)
      order by w.ordinal), '[]')
    into claimed from work w join public.chunks k on k.id = w.chunk_id;
  return claimed;
end $$;

drop function public.fail_dataset_chunk(uuid, uuid, jsonb, integer);
create function public.fail_dataset_chunk(p_dataset_chunk_id uuid, p_lease_token uuid, p_error jsonb,
  p_retry_seconds integer default null, p_was_useless boolean default false, p_was_turned_away boolean default false
) returns boolean language plpgsql set search_path = '' as $$
declare
  work public.dataset_chunks;
begin
  -- To be tried again it stays 'working' under a lease that ends after the wait.
  update public.dataset_chunks set error = p_error, updated_at = now(), lease_token = null,
      status = case when p_retry_seconds is null then 'failed' else 'working' end,
      lease_expires_at = now() + make_interval(secs => p_retry_seconds),
      variant = variant + p_was_useless::integer, is_answered = is_answered and not p_was_useless, attempts = attempts - p_was_turned_away::integer
    where id = p_dataset_chunk_id and lease_token = p_lease_token and status = 'working'
    returning * into work;
  if not found then
    return false;
  end if;
  if p_retry_seconds is null then
    update public.training_datasets set chunks_failed = chunks_failed + 1 where id = work.dataset_id;
  end if;
  return true;
end $$;
comment on function public.fail_dataset_chunk(uuid, uuid, jsonb, integer, boolean, boolean) is
  'Failed, or to be tried again after p_retry_seconds. Useless: the answer, so another is asked for. Turned away: for the rate, which is no attempt.';

create function public.fail_open_chunks(p_dataset_id uuid, p_error jsonb) returns integer
language plpgsql set search_path = '' as $$
declare
  given_up integer;
begin
  update public.dataset_chunks set status = 'failed', error = p_error, lease_token = null, lease_expires_at = null,
      updated_at = now()
    where dataset_id = p_dataset_id
      and (status = 'pending'
        or (status = 'working' and batch_id is null and (lease_token is null or lease_expires_at < now())));
  get diagnostics given_up = row_count;
  update public.training_datasets set chunks_failed = chunks_failed + given_up where id = p_dataset_id;
  return given_up;
end $$;
comment on function public.fail_open_chunks(uuid, jsonb) is
  'Every chunk that nobody has in hand has failed with this error; how many.';

-- No chunk is left to work on, or none is begun any more and none is in hand.
create function public.is_generation_over(p_dataset_id uuid) returns boolean
language sql stable set search_path = '' as $$
  select case
    when d.stop_requested_at is not null then private.chunks_in_hand(d.id) = 0 and not exists (
      select from public.dataset_chunks w
      where w.dataset_id = d.id and w.status in ('pending', 'working') and w.is_answered)
    else not exists (
      select from public.dataset_chunks w where w.dataset_id = d.id and w.status in ('pending', 'working')) end
  from public.training_datasets d where d.id = p_dataset_id
$$;

create function private.generation_warning(dataset public.training_datasets) returns jsonb
language sql stable set search_path = '' as $$
  select case
    when dataset.stop_reason = 'spend_cap' then jsonb_build_object('code', 'spend_cap_reached', 'message',
      format('Stopped at its spend cap: %s of at most %s USD spent, and another chunk may cost %s. %s of %s chunks '
        || 'are done. Continue it with a higher cap.', round(dataset.cost_usd, 4), round(dataset.max_cost_usd, 4),
        round(dataset.chunk_cost_usd, 4), dataset.chunks_done, dataset.chunk_count))
    when dataset.stop_reason = 'user' then jsonb_build_object('code', 'generation_stopped', 'message',
      format('Stopped by a user: %s of %s chunks are done. Continue it for the others.',
        dataset.chunks_done, dataset.chunk_count))
    when dataset.chunks_failed > 0 then jsonb_build_object('code', 'chunks_failed', 'message',
      format('%s of %s chunks failed: %s Continue it to try them again.', dataset.chunks_failed, dataset.chunk_count,
        (select w.error ->> 'message' from public.dataset_chunks w
          where w.dataset_id = dataset.id and w.status = 'failed' order by w.ordinal limit 1)))
  end
$$;

create or replace function public.finish_dataset(p_dataset_id uuid) returns jsonb
language plpgsql set search_path = '' as $$
declare
  dataset public.training_datasets;
begin
  select * into dataset from public.training_datasets where id = p_dataset_id for update;
  if dataset.status = 'generating' and public.is_generation_over(p_dataset_id) then
    -- What was not done is open again, for who continues it.
    update public.dataset_chunks set status = 'pending', lease_token = null, lease_expires_at = null
      where dataset_id = p_dataset_id and status = 'working';
    update public.training_datasets set
        status = case when pair_count > 0 then 'ready' else 'failed' end,
        stats = (
          select jsonb_build_object('total_pairs', count(*), 'valid_pairs', count(*) filter (where p.is_valid),
            'avg_quality_score', round(avg(p.quality_score)::numeric, 4),
            'total_tokens', coalesce(sum(p.token_count), 0))
          from public.training_pairs p where p.dataset_id = p_dataset_id),
        warning = case when pair_count > 0 then private.generation_warning(dataset) end,
        error = case when pair_count > 0 then null else coalesce(
          case when stop_reason is not null then private.generation_warning(dataset) end,
          (select w.error from public.dataset_chunks w
            where w.dataset_id = p_dataset_id and w.error is not null limit 1),
          jsonb_build_object('code', 'no_pairs', 'message',
            'No pair could be made from these documents. Add longer text, or choose another generator.')) end
      where id = p_dataset_id returning * into dataset;
  end if;
  return to_jsonb(dataset);
end $$;
comment on function public.finish_dataset(uuid) is 'The dataset, ready or failed when its generation is over.';

create function public.stop_generation(p_dataset_id uuid) returns boolean
language plpgsql set search_path = '' as $$
begin
  update public.training_datasets
    set stop_reason = case when stop_requested_at is null then 'user' else stop_reason end,
        stop_requested_at = coalesce(stop_requested_at, now())
    where id = p_dataset_id and status = 'generating';
  return found;
end $$;
comment on function public.stop_generation(uuid) is
  'No chunk is begun any more; those in hand are finished. false: it is not generating.';

-- Outcomes: continued, not_ended (it is generating, training or something else), nothing_left.
create function public.continue_generation(p_dataset_id uuid, p_max_cost_usd numeric default null) returns jsonb
language plpgsql set search_path = '' as $$
declare
  dataset public.training_datasets;
begin
  select * into dataset from public.training_datasets where id = p_dataset_id for update;
  if dataset.status is null or dataset.status not in ('ready', 'failed') then
    return jsonb_build_object('outcome', 'not_ended', 'status', dataset.status);
  end if;
  update public.dataset_chunks w set status = 'pending', attempts = 0, error = null
    where w.dataset_id = p_dataset_id and w.status in ('pending', 'failed') and not exists (
      select from public.chunks k join public.documents d on d.id = k.document_id
      where k.id = w.chunk_id and d.status = 'withdrawn');
  if not found then
    return jsonb_build_object('outcome', 'nothing_left');
  end if;
  update public.training_datasets set status = 'generating', error = null,
      chunks_failed = (select count(*) from public.dataset_chunks w
        where w.dataset_id = p_dataset_id and w.status = 'failed'),
      warning = null, validation = null, stop_requested_at = null, stop_reason = null,
      max_cost_usd = coalesce(p_max_cost_usd, max_cost_usd)
    where id = p_dataset_id returning * into dataset;
  perform private.call_function('generate-dataset', jsonb_build_object('datasetId', p_dataset_id));
  return jsonb_build_object('outcome', 'continued', 'dataset', to_jsonb(dataset));
end $$;
comment on function public.continue_generation(uuid, numeric) is
  'What failed or was not begun is worked on, but of documents that are withdrawn; p_max_cost_usd, if given, is the new cap on all of it.';

revoke execute on function private.chunks_in_hand(uuid), private.affordable_chunks(public.training_datasets),
  private.stop_at_cap(uuid), private.generation_warning(public.training_datasets),
  public.fail_dataset_chunk(uuid, uuid, jsonb, integer, boolean, boolean), public.fail_open_chunks(uuid, jsonb),
  public.is_generation_over(uuid),
  public.stop_generation(uuid), public.continue_generation(uuid, numeric)
  from public, anon, authenticated;
grant execute on function private.chunks_in_hand(uuid), private.affordable_chunks(public.training_datasets),
  private.stop_at_cap(uuid), private.generation_warning(public.training_datasets),
  public.fail_dataset_chunk(uuid, uuid, jsonb, integer, boolean, boolean), public.fail_open_chunks(uuid, jsonb),
  public.is_generation_over(uuid),
  public.stop_generation(uuid), public.continue_generation(uuid, numeric)
  to service_role;
