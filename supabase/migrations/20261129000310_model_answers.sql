-- Every answer of a model that was paid for, kept before anything is made of it: a function that dies afterwards
-- finds it again, and the same question in the same project is not paid twice.

create table private.model_answers (
  id uuid primary key,
  project_id uuid not null references public.projects (id) on delete cascade,
  dataset_id uuid references public.training_datasets (id) on delete set null,
  chunk_id uuid references public.chunks (id) on delete cascade,
  question_hash text not null check (length(question_hash) = 64),
  model text not null,
  answer text not null,
  prompt_tokens integer not null check (prompt_tokens >= 0),
  completion_tokens integer not null check (completion_tokens >= 0),
  cost_usd numeric(14, 8) check (cost_usd >= 0),
  created_at timestamptz not null default now()
);
comment on table private.model_answers is
  'Kept for 30 days; gone at once with the chunk that they speak of, and when its document is withdrawn.';
comment on column private.model_answers.id is 'Made by who asked, so that keeping it again counts nothing twice.';
comment on column private.model_answers.question_hash is 'SHA-256 of the address and the whole body of the call.';
comment on column private.model_answers.dataset_id is 'For which it was paid; null: that one is deleted.';
create index model_answers_question_idx on private.model_answers (project_id, question_hash, created_at);
create index model_answers_age_idx on private.model_answers (project_id, created_at);
create index model_answers_dataset_id_idx on private.model_answers (dataset_id);
create index model_answers_chunk_id_idx on private.model_answers (chunk_id);

revoke all on private.model_answers from public, anon, authenticated, service_role;
grant select, insert, delete on private.model_answers to service_role;

create function private.forget_answers_about() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  delete from private.model_answers a using public.chunks k where k.document_id = new.id and a.chunk_id = k.id;
  return null;
end $$;
create trigger forget_answers after update of status on public.documents
  for each row when (new.status = 'withdrawn') execute function private.forget_answers_about();

create function public.find_answer(p_project_id uuid, p_question_hash text, p_dataset_id uuid default null)
returns jsonb language sql stable set search_path = '' as $$
  select to_jsonb(a) - 'question_hash' from private.model_answers a
  where a.project_id = p_project_id and a.question_hash = p_question_hash
    and (p_dataset_id is null or a.dataset_id = p_dataset_id)
  order by a.created_at limit 1
$$;
comment on function public.find_answer(uuid, text, uuid) is
  'The first answer to this question; with a dataset, only if that one paid for it. null: there is none.';

create function public.keep_answer(p_answer jsonb) returns boolean
language plpgsql set search_path = '' as $$
declare
  kept private.model_answers;
  of_chunk_usd numeric;
begin
  insert into private.model_answers
    select * from jsonb_populate_record(
      null::private.model_answers, p_answer || jsonb_build_object('created_at', now()))
    on conflict (id) do nothing returning * into kept;
  if not found then
    return false;
  end if;
  update public.dataset_chunks w set cost_usd = w.cost_usd + kept.cost_usd
    where w.dataset_id = kept.dataset_id and w.chunk_id = kept.chunk_id
    returning w.cost_usd into of_chunk_usd;
  update public.training_datasets d set
      cost_usd = d.cost_usd + kept.cost_usd,
      prompt_tokens = d.prompt_tokens + kept.prompt_tokens,
      completion_tokens = d.completion_tokens + kept.completion_tokens,
      chunk_cost_usd = greatest(d.chunk_cost_usd, of_chunk_usd)
    where d.id = kept.dataset_id;
  delete from private.model_answers a
    where a.project_id = kept.project_id and a.created_at < now() - interval '30 days';
  return true;
end $$;
comment on function public.keep_answer(jsonb) is
  'The answer is kept and its cost counted, once for each id. false: it was kept before.';

revoke execute on function private.forget_answers_about(), public.find_answer(uuid, text, uuid),
  public.keep_answer(jsonb) from public, anon, authenticated;
grant execute on function public.find_answer(uuid, text, uuid), public.keep_answer(jsonb) to service_role;
