-- The atomic steps of document processing and pair generation. Work is claimed with a lease and
-- stored once, so a function that dies at its time limit goes on where it was.

create function public.claim_document(p_document_id uuid, p_lease_seconds integer) returns jsonb
language plpgsql set search_path = '' as $$
declare
  claimed jsonb;
begin
  update public.documents d
    set status = 'processing', attempts = d.attempts + 1, lease_token = gen_random_uuid(),
        lease_expires_at = now() + make_interval(secs => p_lease_seconds)
    where d.id = p_document_id
      and (d.status = 'uploaded' or (d.status = 'processing' and d.lease_expires_at < now()))
    returning to_jsonb(d) into claimed;
  return claimed;
end $$;
comment on function public.claim_document(uuid, integer) is
  'The document with a fresh lease_token; null: it is done, or somebody else works on it.';

create function public.save_document_chunks(
  p_document_id uuid, p_lease_token uuid, p_content_hash text, p_chunks jsonb
) returns boolean language plpgsql set search_path = '' as $$
declare
  document public.documents;
begin
  select * into document from public.documents where id = p_document_id and lease_token = p_lease_token for update;
  if not found then
    return false;
  end if;
  delete from public.chunks where document_id = p_document_id;
  insert into public.chunks (document_id, project_id, ordinal, content, content_hash, char_start, char_end,
      heading_path, token_count, quality_score, injection_flags, is_duplicate, duplicate_of)
    select p_document_id, document.project_id, c.ordinal, c.content, c.content_hash, c.char_start, c.char_end,
      c.heading_path, c.token_count, c.quality_score, c.injection_flags, first.id is not null, first.id
    from jsonb_to_recordset(p_chunks) as c (ordinal integer, content text, content_hash text, char_start integer,
      char_end integer, heading_path text[], token_count integer, quality_score real, injection_flags text[])
    left join lateral (
      select k.id from public.chunks k
      where k.project_id = document.project_id and k.content_hash = c.content_hash and not k.is_duplicate
      order by k.created_at limit 1
    ) first on true;
  update public.documents set status = 'ready', error = null, content_hash = p_content_hash,
      lease_token = null, lease_expires_at = null,
      chunk_count = jsonb_array_length(p_chunks),
      token_count = (select coalesce(sum(k.token_count), 0) from public.chunks k where k.document_id = p_document_id)
    where id = p_document_id;
  return true;
end $$;

create function public.fail_document(p_document_id uuid, p_lease_token uuid, p_error jsonb) returns boolean
language plpgsql set search_path = '' as $$
begin
  update public.documents set status = 'failed', error = p_error, lease_token = null, lease_expires_at = null
    where id = p_document_id and lease_token = p_lease_token;
  return found;
end $$;

create function public.create_generated_dataset(p_dataset jsonb, p_chunk_ids uuid[]) returns jsonb
language plpgsql set search_path = '' as $$
declare
  dataset public.training_datasets;
begin
  insert into public.training_datasets (project_id, created_by, name, format, mode, system_prompt, document_ids,
      source, status, generation, chunk_count)
    values ((p_dataset ->> 'project_id')::uuid, (p_dataset ->> 'created_by')::uuid, p_dataset ->> 'name',
      p_dataset ->> 'format', p_dataset ->> 'mode', p_dataset ->> 'system_prompt',
      (select array_agg(value::uuid) from jsonb_array_elements_text(nullif(p_dataset -> 'document_ids', 'null'))),
      'documents', 'generating', p_dataset -> 'generation', cardinality(p_chunk_ids))
    returning * into dataset;
  insert into public.dataset_chunks (dataset_id, chunk_id, project_id, ordinal)
    select dataset.id, c.id, dataset.project_id, c.position::integer
    from unnest(p_chunk_ids) with ordinality as c (id, position);
  return to_jsonb(dataset);
end $$;

create function public.claim_dataset_chunks(p_dataset_id uuid, p_limit integer, p_lease_seconds integer)
returns jsonb language plpgsql set search_path = '' as $$
declare
  claimed jsonb;
begin
  with open_work as (
    select w.id from public.dataset_chunks w
    where w.dataset_id = p_dataset_id
      and (w.status = 'pending' or (w.status = 'working' and w.lease_expires_at < now()))
    order by w.ordinal limit p_limit for update skip locked
  ), work as (
    update public.dataset_chunks w
      set status = 'working', attempts = w.attempts + 1, lease_token = gen_random_uuid(),
          lease_expires_at = now() + make_interval(secs => p_lease_seconds), updated_at = now()
      from open_work o where w.id = o.id returning w.*
  )
  select coalesce(jsonb_agg(jsonb_build_object(
      'id', w.id, 'lease_token', w.lease_token, 'attempts', w.attempts, 'ordinal', w.ordinal,
      'chunk_id', k.id, 'document_id', k.document_id, 'content', k.content, 'char_start', k.char_start,
      'char_end', k.char_end, 'heading_path', k.heading_path, 'injection_flags', k.injection_flags)
      order by w.ordinal), '[]')
    into claimed from work w join public.chunks k on k.id = w.chunk_id;
  return claimed;
end $$;

create function public.save_chunk_pairs(
  p_dataset_chunk_id uuid, p_lease_token uuid, p_pairs jsonb, p_usage jsonb default '{}'
) returns boolean language plpgsql set search_path = '' as $$
declare
  work public.dataset_chunks;
begin
  select * into work from public.dataset_chunks
    where id = p_dataset_chunk_id and lease_token = p_lease_token and status = 'working' for update;
  if not found then
    return false;
  end if;
  insert into public.training_pairs (dataset_id, project_id, chunk_id, ordinal, messages, system_message,
      user_message, assistant_message, char_start, char_end, quality_score, grounding_score, token_count,
      is_valid, issues, generator, prompt_hash)
    select work.dataset_id, work.project_id, work.chunk_id, p.ordinal, nullif(p.messages, 'null'), p.system_message,
      p.user_message, p.assistant_message, p.char_start, p.char_end, p.quality_score, p.grounding_score,
      p.token_count, p.is_valid, p.issues, p.generator, p.prompt_hash
    from jsonb_to_recordset(p_pairs) as p (ordinal integer, messages jsonb, system_message text, user_message text,
      assistant_message text, char_start integer, char_end integer, quality_score real, grounding_score real,
      token_count integer, is_valid boolean, issues text[], generator text, prompt_hash text)
    on conflict (dataset_id, chunk_id, ordinal) do nothing;
  update public.dataset_chunks set status = 'done', pair_count = jsonb_array_length(p_pairs),
      filtered_count = coalesce((p_usage ->> 'filtered_count')::integer, 0),
      prompt_tokens = coalesce((p_usage ->> 'prompt_tokens')::integer, 0),
      completion_tokens = coalesce((p_usage ->> 'completion_tokens')::integer, 0),
      error = null, lease_token = null, lease_expires_at = null, updated_at = now()
    where id = work.id;
  update public.training_datasets set chunks_done = chunks_done + 1, pair_count = pair_count + jsonb_array_length(p_pairs)
    where id = work.dataset_id;
  return true;
end $$;

create function public.fail_dataset_chunk(
  p_dataset_chunk_id uuid, p_lease_token uuid, p_error jsonb, p_retry_seconds integer default null
) returns boolean language plpgsql set search_path = '' as $$
declare
  work public.dataset_chunks;
begin
  -- To be tried again it stays 'working' under a lease that ends after the wait.
  update public.dataset_chunks set error = p_error, updated_at = now(), lease_token = null,
      status = case when p_retry_seconds is null then 'failed' else 'working' end,
      lease_expires_at = now() + make_interval(secs => p_retry_seconds)
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

create function public.finish_dataset(p_dataset_id uuid) returns jsonb
language plpgsql set search_path = '' as $$
declare
  dataset public.training_datasets;
begin
  select * into dataset from public.training_datasets where id = p_dataset_id for update;
  if dataset.status = 'generating' and not exists (
    select from public.dataset_chunks w where w.dataset_id = p_dataset_id and w.status in ('pending', 'working')
  ) then
    update public.training_datasets set
        status = case when pair_count > 0 then 'ready' else 'failed' end,
        stats = (
          select jsonb_build_object('total_pairs', count(*), 'valid_pairs', count(*) filter (where p.is_valid),
            'avg_quality_score', round(avg(p.quality_score)::numeric, 4),
            'total_tokens', coalesce(sum(p.token_count), 0))
          from public.training_pairs p where p.dataset_id = p_dataset_id),
        error = case when pair_count > 0 then null else coalesce(
          (select w.error from public.dataset_chunks w
            where w.dataset_id = p_dataset_id and w.error is not null limit 1),
          jsonb_build_object('code', 'no_pairs', 'message',
            'No pair could be made from these documents. Add longer text, or choose another generator.')) end
      where id = p_dataset_id returning * into dataset;
  end if;
  return to_jsonb(dataset);
end $$;
comment on function public.finish_dataset(uuid) is 'The dataset, ready or failed when no chunk is left to work on.';

revoke execute on function public.claim_document(uuid, integer), public.save_document_chunks(uuid, uuid, text, jsonb),
  public.fail_document(uuid, uuid, jsonb), public.create_generated_dataset(jsonb, uuid[]),
  public.claim_dataset_chunks(uuid, integer, integer), public.save_chunk_pairs(uuid, uuid, jsonb, jsonb),
  public.fail_dataset_chunk(uuid, uuid, jsonb, integer), public.finish_dataset(uuid)
  from public, anon, authenticated;
grant execute on function public.claim_document(uuid, integer), public.save_document_chunks(uuid, uuid, text, jsonb),
  public.fail_document(uuid, uuid, jsonb), public.create_generated_dataset(jsonb, uuid[]),
  public.claim_dataset_chunks(uuid, integer, integer), public.save_chunk_pairs(uuid, uuid, jsonb, jsonb),
  public.fail_dataset_chunk(uuid, uuid, jsonb, integer), public.finish_dataset(uuid)
  to service_role;
