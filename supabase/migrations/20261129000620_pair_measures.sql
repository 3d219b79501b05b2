-- Measures of pairs that are not known: those of an edited pair, or of one that came without. validate-dataset
-- computes them; and its row tells how far it is.

alter table public.training_datasets add column validation_percent smallint check (validation_percent between 0 and 100);
comment on column public.training_datasets.validation_percent is
  'How far validate-dataset is, told every few seconds; null: it is not running.';

create function public.save_pair_measures(p_dataset_id uuid, p_measures jsonb) returns integer
language plpgsql set search_path = '' as $$
declare
  saved integer;
begin
  -- Not what somebody has edited again meanwhile, and nothing that is known.
  update public.training_pairs p set
      token_count = coalesce(p.token_count, m.token_count),
      grounding_score = coalesce(p.grounding_score, m.grounding_score),
      quality_score = coalesce(p.quality_score, m.quality_score)
    from jsonb_to_recordset(p_measures)
      as m (id uuid, updated_at timestamptz, token_count integer, grounding_score real, quality_score real)
    where p.id = m.id and p.dataset_id = p_dataset_id and p.updated_at = m.updated_at;
  get diagnostics saved = row_count;
  return saved;
end $$;
comment on function public.save_pair_measures(uuid, jsonb) is
  'Fills in what is null in pairs that are as they were read: [{id, updated_at, token_count, grounding_score, quality_score}].';

revoke execute on function public.save_pair_measures(uuid, jsonb) from public, anon, authenticated;
grant execute on function public.save_pair_measures(uuid, jsonb) to service_role;
