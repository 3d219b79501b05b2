-- What a generated dataset is worth as a whole, and which of its pairs repeat others. Both are told when no
-- pair is made any more, so they do not depend on the order in which chunks were worked on.

alter table public.training_datasets
  add column quality_score real check (quality_score between 0 and 1),
  add column quality_factors jsonb;
comment on column public.training_datasets.quality_score is
  'Of a generated dataset: 0.50 pairs + 0.20 valid + 0.15 variety + 0.15 coverage; null: not scored.';
comment on column public.training_datasets.quality_factors is
  'Each 0-1. pairs: average quality of the valid pairs; valid: their share of all; variety: share of pairs that repeat no other; coverage: share of the chunks with a valid pair.';

create function public.score_generated_dataset(p_dataset_id uuid, p_duplicates jsonb) returns jsonb
language plpgsql set search_path = '' as $$
declare
  factors jsonb;
begin
  -- Only while it is generating, and no pair that somebody has decided on.
  perform from public.training_datasets where id = p_dataset_id and status = 'generating' for update;
  if not found then
    return null;
  end if;
  update public.training_pairs p
    set is_valid = false,
        issues = array_append(array_remove(array_remove(p.issues, 'duplicate_question'), 'near_duplicate'), d.rule)
    from jsonb_to_recordset(p_duplicates) as d (id uuid, rule text)
    where p.id = d.id and p.dataset_id = p_dataset_id and p.review_status = 'pending';
  select jsonb_build_object(
      'pairs', coalesce(round(avg(p.quality_score) filter (where p.is_valid)::numeric, 4), 0),
      'valid', coalesce(round(avg(p.is_valid::integer), 4), 0),
      'variety', coalesce(round(avg((not p.issues && array['duplicate_question', 'near_duplicate'])::integer), 4), 0),
      'coverage', (
        select coalesce(round(avg((exists (select from public.training_pairs v
          where v.dataset_id = p_dataset_id and v.chunk_id = w.chunk_id and v.is_valid))::integer), 4), 0)
        from public.dataset_chunks w where w.dataset_id = p_dataset_id))
    into factors from public.training_pairs p where p.dataset_id = p_dataset_id;
  update public.training_datasets set quality_factors = factors,
      quality_score = 0.50 * (factors ->> 'pairs')::real + 0.20 * (factors ->> 'valid')::real
        + 0.15 * (factors ->> 'variety')::real + 0.15 * (factors ->> 'coverage')::real
    where id = p_dataset_id;
  return factors;
end $$;
comment on function public.score_generated_dataset(uuid, jsonb) is
  'Marks the pairs [{id, rule}] as repeating others and scores the dataset; null: it is not generating any more.';

revoke execute on function public.score_generated_dataset(uuid, jsonb) from public, anon, authenticated;
grant execute on function public.score_generated_dataset(uuid, jsonb) to service_role;
