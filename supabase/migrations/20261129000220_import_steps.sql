-- The atomic steps of an import. A batch of pairs is stored together with the place that reading goes on from, and
-- only from the place where it was: whoever lost the lease, and a batch that is sent twice, changes nothing.

create function public.uploaded_files(p_paths text[]) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object('path', o.name, 'byte_size', (o.metadata ->> 'size')::bigint,
      'version', concat_ws(' ', o.id, o.updated_at, o.metadata ->> 'eTag'))), '[]')
  from storage.objects o where o.bucket_id = 'uploads' and o.name = any (p_paths)
$$;
comment on function public.uploaded_files(text[]) is 'Those of the files that exist; version changes when one is replaced.';

create function public.create_imported_dataset(p_dataset jsonb, p_import jsonb) returns jsonb
language plpgsql set search_path = '' as $$
declare
  dataset public.training_datasets;
  known private.dataset_imports;
begin
  -- Two calls with one key wait here for each other.
  perform pg_advisory_xact_lock(hashtextextended(concat(p_dataset ->> 'project_id', p_import ->> 'idempotency_key'), 0));
  select * into known from private.dataset_imports
    where project_id = (p_dataset ->> 'project_id')::uuid and idempotency_key = p_import ->> 'idempotency_key';
  if found then
    select * into dataset from public.training_datasets where id = known.dataset_id;
    return jsonb_build_object('dataset', to_jsonb(dataset), 'outcome',
      case when known.request_hash = p_import ->> 'request_hash' then 'existing' else 'key_reused' end);
  end if;
  insert into public.training_datasets (project_id, created_by, name, format, system_prompt, source, status,
      file_count, byte_count)
    values ((p_dataset ->> 'project_id')::uuid, (p_dataset ->> 'created_by')::uuid, p_dataset ->> 'name',
      p_dataset ->> 'format', p_dataset ->> 'system_prompt', p_dataset ->> 'source', 'generating',
      jsonb_array_length(p_import -> 'files'),
      (select sum((f ->> 'byte_size')::bigint) from jsonb_array_elements(p_import -> 'files') f))
    returning * into dataset;
  insert into private.dataset_imports (dataset_id, project_id, idempotency_key, request_hash, files, rows, options)
    values (dataset.id, dataset.project_id, p_import ->> 'idempotency_key', p_import ->> 'request_hash',
      p_import -> 'files', p_import ->> 'rows', p_import -> 'options');
  return jsonb_build_object('dataset', to_jsonb(dataset), 'outcome', 'created');
end $$;

create function public.claim_import(p_dataset_id uuid, p_lease_seconds integer) returns jsonb
language plpgsql set search_path = '' as $$
declare
  work private.dataset_imports;
begin
  update private.dataset_imports i
    set attempts = i.attempts + 1, lease_token = gen_random_uuid(),
        lease_expires_at = now() + make_interval(secs => p_lease_seconds)
    where i.dataset_id = p_dataset_id and i.ended_at is null
      and (i.lease_expires_at is null or i.lease_expires_at < now())
    returning * into work;
  if not found then
    return null;
  end if;
  return to_jsonb(work) || jsonb_build_object('uploaded', public.uploaded_files(
    array(select f ->> 'path' from jsonb_array_elements(work.files) f where f ->> 'path' is not null)));
end $$;
comment on function public.claim_import(uuid, integer) is
  'What is left to read, with a fresh lease_token and the files as they are now; null: nothing, or somebody else reads.';

create function public.renew_import(p_dataset_id uuid, p_lease_token uuid, p_lease_seconds integer) returns boolean
language plpgsql set search_path = '' as $$
begin
  update private.dataset_imports set lease_expires_at = now() + make_interval(secs => p_lease_seconds)
    where dataset_id = p_dataset_id and lease_token = p_lease_token and ended_at is null;
  return found;
end $$;

create function public.save_import_batch(
  p_dataset_id uuid, p_lease_token uuid, p_files_done integer, p_items_done integer, p_pairs jsonb, p_state jsonb,
  p_rows_done integer, p_bytes_done bigint, p_report jsonb
) returns boolean language plpgsql set search_path = '' as $$
declare
  work private.dataset_imports;
  stored integer;
begin
  select * into work from private.dataset_imports
    where dataset_id = p_dataset_id and lease_token = p_lease_token and ended_at is null
      and files_done = p_files_done and items_done = p_items_done
    for update;
  if not found then
    return false;
  end if;
  insert into public.training_pairs (id, dataset_id, project_id, ordinal, kind, messages, system_message, user_message,
      assistant_message, rejected_message, is_desirable, tools, metadata, token_count, rating, is_gold_star, split,
      source_name, source_line)
    select p.id, p_dataset_id, work.project_id, d.pair_count + p.place, p.kind, p.messages, p.system_message,
      p.user_message, p.assistant_message, p.rejected_message, p.is_desirable, p.tools, coalesce(p.metadata, '{}'),
      p.token_count, p.rating, coalesce(p.is_gold_star, false), p.split,
      work.files -> p_files_done ->> 'name', p.source_line
    from public.training_datasets d, rows from (jsonb_to_recordset(p_pairs) as (id uuid, kind text, messages jsonb,
      system_message text, user_message text, assistant_message text, rejected_message text, is_desirable boolean,
      tools jsonb, metadata jsonb, token_count integer, rating smallint, is_gold_star boolean, split text,
      source_line integer))
      with ordinality as p (id, kind, messages, system_message, user_message, assistant_message, rejected_message,
      is_desirable, tools, metadata, token_count, rating, is_gold_star, split, source_line, place)
    where d.id = p_dataset_id;
  get diagnostics stored = row_count;
  update private.dataset_imports set attempts = 0,
      files_done = files_done + (p_report is not null)::integer,
      items_done = case when p_report is null then (p_state ->> 'items')::integer else 0 end,
      state = case when p_report is null then p_state else '{}' end,
      reports = case when p_report is null then reports else reports || p_report end
    where dataset_id = p_dataset_id;
  update public.training_datasets set pair_count = pair_count + stored, rows_done = p_rows_done,
      bytes_done = p_bytes_done, files_done = files_done + (p_report is not null)::integer
    where id = p_dataset_id;
  return true;
end $$;
comment on function public.save_import_batch(uuid, uuid, integer, integer, jsonb, jsonb, integer, bigint, jsonb) is
  'False: the lease or the place was lost and nothing is stored. A report ends the file that is being read.';

create function public.release_import(
  p_dataset_id uuid, p_lease_token uuid, p_retry_seconds integer, p_is_attempt boolean
) returns boolean language plpgsql set search_path = '' as $$
begin
  update private.dataset_imports
    set lease_token = null, lease_expires_at = now() + make_interval(secs => p_retry_seconds),
        attempts = greatest(attempts - (not p_is_attempt)::integer, 0)
    where dataset_id = p_dataset_id and lease_token = p_lease_token and ended_at is null;
  if not found then
    return false;
  end if;
  if p_retry_seconds = 0 then
    perform private.call_function('import-dataset', jsonb_build_object('datasetId', p_dataset_id));
  end if;
  return true;
end $$;
comment on function public.release_import(uuid, uuid, integer, boolean) is
  'Others may go on, after so many seconds; 0: another call is asked for at once.';

create function public.discard_import_pairs(p_dataset_id uuid, p_lease_token uuid, p_limit integer) returns integer
language plpgsql set search_path = '' as $$
declare
  discarded integer;
begin
  perform from private.dataset_imports
    where dataset_id = p_dataset_id and lease_token = p_lease_token and ended_at is null for update;
  if not found then
    return 0;
  end if;
  delete from public.training_pairs where id in (
    select p.id from public.training_pairs p where p.dataset_id = p_dataset_id limit p_limit);
  get diagnostics discarded = row_count;
  return discarded;
end $$;
comment on function public.discard_import_pairs(uuid, uuid, integer) is
  'How many were taken away; a part at a time, so that no statement of a large import is cut off.';

create function public.end_import(
  p_dataset_id uuid, p_lease_token uuid, p_report jsonb, p_validation jsonb, p_error jsonb
) returns jsonb language plpgsql set search_path = '' as $$
declare
  dataset public.training_datasets;
begin
  update private.dataset_imports
    set ended_at = now(), rows = null, state = '{}', reports = '[]', lease_token = null, lease_expires_at = null
    where dataset_id = p_dataset_id and lease_token = p_lease_token and ended_at is null;
  if found and p_error is not null then
    delete from public.training_pairs where dataset_id = p_dataset_id;
    update public.training_datasets set status = 'failed', pair_count = 0, error = p_error, import_report = p_report
      where id = p_dataset_id;
  elsif found then
    update public.training_datasets set status = 'ready', import_report = p_report, validation = p_validation,
        stats = (
          select jsonb_build_object('total_pairs', count(*), 'valid_pairs', count(*) filter (where p.is_valid),
            'avg_quality_score', round(avg(p.quality_score)::numeric, 4),
            'total_tokens', coalesce(sum(p.token_count), 0),
            'avg_tokens_per_pair', coalesce(round(avg(p.token_count), 2), 0))
          from public.training_pairs p where p.dataset_id = p_dataset_id)
      where id = p_dataset_id;
  end if;
  select * into dataset from public.training_datasets where id = p_dataset_id;
  return to_jsonb(dataset);
end $$;
comment on function public.end_import(uuid, uuid, jsonb, jsonb, jsonb) is
  'The dataset, ready, or failed without a pair when there is an error; as it was when the lease was lost.';

revoke execute on function public.uploaded_files(text[]), public.create_imported_dataset(jsonb, jsonb),
  public.claim_import(uuid, integer), public.renew_import(uuid, uuid, integer),
  public.save_import_batch(uuid, uuid, integer, integer, jsonb, jsonb, integer, bigint, jsonb),
  public.release_import(uuid, uuid, integer, boolean), public.discard_import_pairs(uuid, uuid, integer),
  public.end_import(uuid, uuid, jsonb, jsonb, jsonb)
  from public, anon, authenticated;
grant execute on function public.uploaded_files(text[]), public.create_imported_dataset(jsonb, jsonb),
  public.claim_import(uuid, integer), public.renew_import(uuid, uuid, integer),
  public.save_import_batch(uuid, uuid, integer, integer, jsonb, jsonb, integer, bigint, jsonb),
  public.release_import(uuid, uuid, integer, boolean), public.discard_import_pairs(uuid, uuid, integer),
  public.end_import(uuid, uuid, jsonb, jsonb, jsonb)
  to service_role;
