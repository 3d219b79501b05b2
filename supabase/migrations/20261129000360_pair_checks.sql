-- What exactly a check found in a pair, and what a judging model thinks of it.

alter table public.training_pairs
  add column issue_details jsonb not null default '{}' check (jsonb_typeof(issue_details) = 'object'),
  add column judge_score real check (judge_score between 0 and 1);
comment on column public.training_pairs.issue_details is
  'Rule of `issues` -> what it is about: the numbers, names or quotations that are not in the source, or the reason of the judge.';
comment on column public.training_pairs.judge_score is
  '1: a judging model finds the answer supported by its source, 0: it does not; null: not asked.';
create index training_pairs_judge_score_idx on public.training_pairs (dataset_id, judge_score)
  where judge_score is not null;

create or replace function public.save_chunk_pairs(
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
      user_message, assistant_message, char_start, char_end, quality_score, grounding_score, judge_score, token_count,
      is_valid, issues, issue_details, generator, prompt_hash)
    select work.dataset_id, work.project_id, work.chunk_id, p.ordinal, nullif(p.messages, 'null'), p.system_message,
      p.user_message, p.assistant_message, p.char_start, p.char_end, p.quality_score, p.grounding_score,
      p.judge_score, p.token_count, p.is_valid, p.issues, coalesce(p.issue_details, '{}'), p.generator, p.prompt_hash
    from jsonb_to_recordset(p_pairs) as p (ordinal integer, messages jsonb, system_message text, user_message text,
      assistant_message text, char_start integer, char_end integer, quality_score real, grounding_score real,
      judge_score real, token_count integer, is_valid boolean, issues text[], issue_details jsonb, generator text,
      prompt_hash text)
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
