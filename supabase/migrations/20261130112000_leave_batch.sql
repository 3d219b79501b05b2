-- A dataset goes on without the batches that it began with. It replaces continue_generation of
-- 20261129000320_generation_control.sql.

drop function public.continue_generation(uuid, numeric);
-- Outcomes: continued, not_ended (it is generating, training or something else), nothing_left.
create function public.continue_generation(
  p_dataset_id uuid, p_max_cost_usd numeric default null, p_batch_share numeric default null
) returns jsonb language plpgsql set search_path = '' as $$
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
  if p_batch_share is not null and (dataset.generation ->> 'batch')::boolean then
    update public.training_datasets set generation = generation || '{"batch": false}',
        chunk_cost_usd = chunk_cost_usd / p_batch_share
      where id = p_dataset_id;
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
comment on function public.continue_generation(uuid, numeric, numeric) is
  'What failed or was not begun is worked on, but of documents that are withdrawn. p_max_cost_usd, if given, is the new cap on all of it. p_batch_share: it leaves its batches, in which a chunk costs this share of the usual price; null: it goes on as it was.';

revoke execute on function public.continue_generation(uuid, numeric, numeric) from public, anon, authenticated;
grant execute on function public.continue_generation(uuid, numeric, numeric) to service_role;
