-- A dataset in train, validation and test: written whole or not at all, and only over what was there when the
-- pairs were read.

comment on column public.training_datasets.split is
  'How it was split: {seed, fractions, group_by, sections, sectioned_document_id, counts, group_counts, content_hash, made_at}; null: not split.';
comment on column public.training_datasets.content_hash is
  'SHA-256 of the usable pairs and where each lies, as they were split; null: not split, or pairs left it since.';
comment on column public.training_pairs.split is 'null: not split yet; it is trained on.';
comment on column public.training_pairs.cluster_id is
  'The first pair of the group that is never divided: one document or section, and its near-duplicates. null: not split yet.';

-- p_groups: [{split, pair_ids}], the first pair of each group first. p_before: `split` of the dataset as it was read.
create function public.save_dataset_split(p_dataset_id uuid, p_before jsonb, p_split jsonb, p_groups jsonb)
returns jsonb language plpgsql set search_path = '' as $$
declare
  dataset public.training_datasets;
  before jsonb := nullif(p_before, 'null');
  changed integer;
begin
  select * into dataset from public.training_datasets where id = p_dataset_id for update;
  if not found then
    return jsonb_build_object('outcome', 'dataset_not_found');
  end if;
  if dataset.status <> 'ready' then
    return jsonb_build_object('outcome', 'dataset_not_ready', 'status', dataset.status);
  end if;
  if dataset.split is distinct from before then
    return jsonb_build_object('outcome', 'changed');
  end if;
  update public.training_pairs p set split = g.split, cluster_id = g.cluster_id
    from (
      select g.split, g.pair_ids[1] as cluster_id, unnest(g.pair_ids) as pair_id
      from jsonb_to_recordset(p_groups) as g (split text, pair_ids uuid[])
    ) g
    where p.id = g.pair_id and p.dataset_id = p_dataset_id
      and (p.split, p.cluster_id) is distinct from (g.split, g.cluster_id);
  get diagnostics changed = row_count;
  -- Asked again for the same, it is the same split, made when it was made.
  if changed > 0 or dataset.content_hash is distinct from p_split ->> 'content_hash'
     or before - 'made_at' is distinct from p_split then
    update public.training_datasets
      set split = p_split || jsonb_build_object('made_at', now()), content_hash = p_split ->> 'content_hash'
      where id = p_dataset_id returning * into dataset;
  end if;
  return jsonb_build_object('outcome', 'saved', 'split', dataset.split, 'changed', changed);
end $$;
revoke execute on function public.save_dataset_split(uuid, jsonb, jsonb, jsonb) from public, anon, authenticated;
grant execute on function public.save_dataset_split(uuid, jsonb, jsonb, jsonb) to service_role;
