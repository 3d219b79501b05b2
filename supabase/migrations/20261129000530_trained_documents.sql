-- Which documents a training was given, pair by pair: written with the intent to start, before anything leaves the
-- house, and when a trainer fetches its rows. It outlives the pairs, the documents and the job, as the model does.

create table public.training_job_documents (
  job_id uuid not null,
  attempt integer not null,
  document_id uuid not null,
  project_id uuid not null references public.projects (id) on delete cascade,
  model_id uuid references public.fine_tuned_models (id) on delete set null,
  pair_ids uuid[] not null,
  fetched_at timestamptz,
  primary key (job_id, attempt, document_id)
);
comment on table public.training_job_documents is
  'Of each attempt that may have run. Pairs that come from no document are not listed, and none that was held out.';
comment on column public.training_job_documents.model_id is 'What the job made; null: nothing, or not yet.';
comment on column public.training_job_documents.fetched_at is
  'When the trainer fetched the rows; null: they went with the start call, or have not been fetched.';
create index training_job_documents_document_id_idx on public.training_job_documents (document_id);
create index training_job_documents_project_id_idx on public.training_job_documents (project_id);
create index training_job_documents_model_id_idx on public.training_job_documents (model_id);

revoke all on public.training_job_documents from anon, authenticated, service_role;
grant select on public.training_job_documents to authenticated;
grant select, insert, update, delete on public.training_job_documents to service_role;

alter table public.training_job_documents enable row level security;
create policy "members see what jobs were given" on public.training_job_documents for select to authenticated
  using (project_id in (select private.my_projects()));

-- {document_id: [pair_id]} is about to be given away. A document that is withdrawn waits until this is written and
-- then finds it; one that was withdrawn after its pairs were read is not given away: they are read again.
create function private.give_documents(
  p_job public.training_jobs, p_attempt integer, p_documents jsonb, p_fetched_at timestamptz
) returns void language plpgsql set search_path = '' as $$
begin
  perform from public.documents where id in (select k::uuid from jsonb_object_keys(p_documents) k) order by id for share;
  if exists (
    select from jsonb_object_keys(p_documents) k
    where not exists (select from public.documents d where d.id = k::uuid and d.status <> 'withdrawn')
  ) then
    raise exception 'a document was withdrawn while its pairs were read';
  end if;
  insert into public.training_job_documents as t (job_id, attempt, document_id, project_id, pair_ids, fetched_at)
    select p_job.id, p_attempt, d.key::uuid, p_job.project_id,
      array(select value::uuid from jsonb_array_elements_text(d.value)), p_fetched_at
    from jsonb_each(p_documents) d
    on conflict (job_id, attempt, document_id) do update
      set fetched_at = p_fetched_at, pair_ids = array(
        select unnest(t.pair_ids) union select unnest(excluded.pair_ids));
end $$;
grant execute on function private.give_documents(public.training_jobs, integer, jsonb, timestamptz) to service_role;

-- As before, and what a start that is about to be made will give away: `documents`, {document_id: [pair_id]}.
create or replace function private.add_job_history(job public.training_jobs, history jsonb) returns void
language plpgsql set search_path = '' as $$
begin
  if history ? 'events' then
    insert into public.training_job_events (job_id, project_id, type, level, message, data, provider_event_id)
      select job.id, job.project_id, 'provider', e ->> 'level', left(e ->> 'message', 2000),
        coalesce(e -> 'data', '{}'), e ->> 'id'
      from jsonb_array_elements(history -> 'events') e
      on conflict (job_id, provider_event_id) do nothing;
  end if;
  if history ? 'metrics' then
    insert into public.training_metrics (job_id, step, project_id, epoch, training_loss, validation_loss, learning_rate)
      select distinct on ((m ->> 'step')::integer) job.id, (m ->> 'step')::integer, job.project_id, (m ->> 'epoch')::real,
        (m ->> 'training_loss')::double precision, (m ->> 'validation_loss')::double precision,
        (m ->> 'learning_rate')::double precision
      from jsonb_array_elements(history -> 'metrics') m
      on conflict (job_id, step) do nothing;
  end if;
  if history ? 'documents' then
    -- With the intent, which raises the attempt: `job` is the row before it.
    perform private.give_documents(job, job.attempt + 1, history -> 'documents', null);
  end if;
end $$;

-- A trainer is about to be given these rows: what it was to be given is forgotten, what it fetched before is not.
create function public.record_fetched_documents(p_job_id uuid, p_attempt integer, p_documents jsonb) returns void
language plpgsql set search_path = '' as $$
declare
  job public.training_jobs;
begin
  select * into job from public.training_jobs where id = p_job_id;
  delete from public.training_job_documents
    where job_id = p_job_id and attempt = p_attempt and fetched_at is null;
  perform private.give_documents(job, p_attempt, p_documents, now());
end $$;
revoke execute on function public.record_fetched_documents(uuid, integer, jsonb) from public, anon, authenticated;
grant execute on function public.record_fetched_documents(uuid, integer, jsonb) to service_role;

-- A start that was refused surely gave nothing away.
create function private.forget_refused_documents() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  delete from public.training_job_documents where job_id = new.job_id and attempt = new.attempt;
  return null;
end $$;
create trigger forget_refused_documents after update of outcome on private.provider_attempts
  for each row when (new.outcome = 'refused' and old.outcome <> 'refused')
  execute function private.forget_refused_documents();

create function private.name_model_of_documents() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  update public.training_job_documents set model_id = new.id where job_id = new.job_id;
  return null;
end $$;
create trigger name_model_of_documents after insert on public.fine_tuned_models
  for each row when (new.job_id is not null) execute function private.name_model_of_documents();
