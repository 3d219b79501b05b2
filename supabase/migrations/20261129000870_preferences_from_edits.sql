-- Each answer that a reviewer rewrote is a preference for free: rejected as it was made, chosen as it is now.

alter table public.training_datasets drop constraint training_datasets_source_check,
  add constraint training_datasets_source_check
    check (source in ('documents', 'upload', 'rows', 'conversations', 'edits')),
  add column source_dataset_id uuid references public.training_datasets (id) on delete set null;
comment on column public.training_datasets.source_dataset_id is 'The dataset whose edits it was made of; null: none.';
create index training_datasets_source_dataset_id_idx on public.training_datasets (source_dataset_id);

alter table public.training_pairs
  add column source_pair_id uuid references public.training_pairs (id) on delete set null;
comment on column public.training_pairs.source_pair_id is 'The pair whose edit it is; null: none, or gone.';
create index training_pairs_source_pair_id_idx on public.training_pairs (source_pair_id);

-- Of all edits of a pair that were not taken back, the first answer against the present one, under the present
-- question. Not where only the question changed, nor where the pair was rejected after all.
create view public.preferences_from_edits with (security_invoker = on) as
select p.id as pair_id, p.dataset_id, p.project_id, p.system_message, p.user_message, p.messages,
  coalesce(p.messages -> -1 ->> 'content', p.assistant_message) as chosen, first.answer as rejected,
  first.changed_at as edited_at
from (
  select distinct on (r.pair_id) r.pair_id, r.changed_at,
    coalesce(r.before -> 'messages' -> -1 ->> 'content', r.before ->> 'assistant_message') as answer
  from public.pair_revisions r
  where r.action = 'edit' and not exists (select from public.pair_revisions u where u.undoes = r.id)
    and coalesce(r.before -> 'messages' -> -1 ->> 'content', r.before ->> 'assistant_message')
      <> coalesce(r.after -> 'messages' -> -1 ->> 'content', r.after ->> 'assistant_message')
  order by r.pair_id, r.revision
) first
join public.training_pairs p on p.id = first.pair_id
where p.kind = 'sft' and p.is_valid and p.review_status <> 'rejected'
  and coalesce(p.messages -> -1 ->> 'content', p.assistant_message) <> first.answer;
revoke all on public.preferences_from_edits from anon, authenticated, service_role;
grant select on public.preferences_from_edits to authenticated, service_role;

create function private.make_preference_dataset(p_dataset_id uuid, p_name text) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  origin public.training_datasets;
  made public.training_datasets;
begin
  select * into origin from public.training_datasets
    where id = p_dataset_id and project_id in (select private.my_projects());
  if not found then
    perform private.refuse(404, 'dataset_not_found', 'There is no such dataset.');
  elsif origin.project_id not in (select private.my_projects('editor')) then
    perform private.refuse(403, 'forbidden', 'Making a dataset needs the role editor in the project.');
  elsif coalesce(length(trim(p_name)) not between 1 and 120, true) then
    perform private.refuse(422, 'invalid_request', 'A name has 1 to 120 characters.');
  end if;
  insert into public.training_datasets (project_id, created_by, name, format, mode, system_prompt, source,
      source_dataset_id, status)
    values (origin.project_id, auth.uid(), trim(p_name), origin.format, origin.mode, origin.system_prompt, 'edits',
      origin.id, 'ready')
    returning * into made;
  -- They stay in the part and the cluster of the pair that they are of, so that no split leaks through them; and with
  -- its chunk, so that a withdrawn document reaches them. A person wrote what is chosen: it is approved.
  insert into public.training_pairs (dataset_id, project_id, chunk_id, document_id, ordinal, kind, messages,
      system_message, user_message, assistant_message, rejected_message, char_start, char_end, review_status, split,
      cluster_id, tools, metadata, source_name, source_line, generator, prompt_hash, source_pair_id)
    select made.id, p.project_id, p.chunk_id, p.document_id,
      row_number() over (order by p.created_at, p.ordinal, p.id) - 1, 'preference', p.messages,
      p.system_message, p.user_message, p.assistant_message, e.rejected, p.char_start, p.char_end, 'approved', p.split,
      p.cluster_id, p.tools, p.metadata, p.source_name, p.source_line, p.generator, p.prompt_hash, p.id
    from public.preferences_from_edits e join public.training_pairs p on p.id = e.pair_id
    where e.dataset_id = p_dataset_id;
  if not found then
    perform private.refuse(422, 'no_edits', 'No answer of this dataset was rewritten, so there is nothing to prefer.',
      'Edit answers in the review; each edit gives a pair.');
  end if;
  perform private.count_pairs(made.id);
  select * into made from public.training_datasets where id = made.id;
  return to_jsonb(made);
end $$;

create function public.make_preference_dataset(p_dataset_id uuid, p_name text) returns jsonb
language sql set search_path = '' as $$
  select private.make_preference_dataset(p_dataset_id, p_name)
$$;
comment on function public.make_preference_dataset(uuid, text) is
  'For editors: a dataset, ready, of one preference pair for each answer that was rewritten in review; dpo and orpo'
  ' train on it.';
revoke execute on function public.make_preference_dataset(uuid, text) from public, anon;
grant execute on function public.make_preference_dataset(uuid, text),
  private.make_preference_dataset(uuid, text) to authenticated;
