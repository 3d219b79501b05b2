-- A training may start from a model of its project: its base_model is then model:<id of that model>. Here that name
-- becomes a reference, and a model knows what the first of its line was trained from.

create function private.model_named(p_base_model text) returns uuid
language sql immutable set search_path = '' as $$
  select substring(p_base_model from '^model:([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$')::uuid
$$;
grant execute on function private.model_named(text) to service_role;

alter table public.training_jobs add column parent_model_id uuid references public.fine_tuned_models (id);
comment on column public.training_jobs.parent_model_id is
  'The model of the project that the run starts from; null: its base_model is somebody else''s.';
create index training_jobs_parent_model_id_idx on public.training_jobs (parent_model_id);

alter table public.fine_tuned_models
  add column parent_model_id uuid references public.fine_tuned_models (id),
  add column root_base_model text;
update public.fine_tuned_models set root_base_model = base_model;
alter table public.fine_tuned_models alter column root_base_model set not null;
comment on column public.fine_tuned_models.parent_model_id is
  'The model of the project that it was trained on from; null: its base_model is somebody else''s.';
comment on column public.fine_tuned_models.root_base_model is
  'What the first of its line was trained from: base_model itself where there is no parent.';
create index fine_tuned_models_parent_model_id_idx on public.fine_tuned_models (parent_model_id);

create function private.name_parent_of_job() returns trigger
language plpgsql set search_path = '' as $$
begin
  new.parent_model_id := private.model_named(new.base_model);
  return new;
end $$;
create trigger name_parent before insert or update of base_model on public.training_jobs
  for each row execute function private.name_parent_of_job();

create function private.name_parent_of_model() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  new.parent_model_id := private.model_named(new.base_model);
  new.root_base_model := coalesce(
    (select m.root_base_model from public.fine_tuned_models m where m.id = new.parent_model_id), new.base_model);
  return new;
end $$;
create trigger name_parent before insert or update of base_model on public.fine_tuned_models
  for each row execute function private.name_parent_of_model();

-- As before, and by the parent: what was trained on from a model that was reached is reached.
create or replace function private.reached_models(p_document_id uuid)
returns table (id uuid, from_model_id uuid) language sql stable set search_path = '' as $$
  with recursive reached as (
    select t.model_id as id, null::uuid as from_model_id
      from public.training_job_documents t where t.document_id = p_document_id and t.model_id is not null
    union
    select later.id, earlier.id from reached r
      join public.fine_tuned_models earlier on earlier.id = r.id
      join public.fine_tuned_models later
        on (later.parent_model_id = earlier.id or later.base_model = earlier.provider_model_id)
        and later.project_id = earlier.project_id and later.id <> earlier.id
  )
  select r.id, (array_agg(r.from_model_id order by r.from_model_id nulls first))[1] from reached r group by r.id
$$;

-- As before, with the jobs that start from a model by its id.
create or replace function public.document_reach(p_document_id uuid) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  document jsonb;
  reach jsonb;
begin
  select jsonb_build_object('id', d.id, 'project_id', d.project_id, 'name', d.name, 'status', d.status)
    into document from public.documents d where d.id = p_document_id;
  if document is null then
    select jsonb_build_object('id', w.document_id, 'project_id', w.project_id, 'name', w.document_name,
        'status', 'deleted')
      into document from public.document_withdrawals w
      where w.document_id = p_document_id order by w.withdrawn_at desc limit 1;
  end if;
  if document is null then
    return null;
  end if;
  with models as (
    select m.*, r.from_model_id from private.reached_models(p_document_id) r
    join public.fine_tuned_models m on m.id = r.id
  ), given as (
    select t.job_id, array_agg(distinct pair_id) as pair_ids
    from public.training_job_documents t cross join lateral unnest(t.pair_ids) pair_id
    where t.document_id = p_document_id group by t.job_id
  ), later_jobs as (
    select j.id, m.id as from_model_id from public.training_jobs j
    join models m on (j.parent_model_id = m.id or j.base_model = m.provider_model_id) and j.project_id = m.project_id
  )
  select jsonb_build_object(
    'document', document,
    'withdrawal', (
      select jsonb_build_object('reason', w.reason, 'withdrawn_at', w.withdrawn_at, 'withdrawn_by', w.withdrawn_by)
      from public.document_withdrawals w where w.document_id = p_document_id and w.restored_at is null
      order by w.withdrawn_at desc limit 1),
    'chunks', (
      select coalesce(jsonb_agg(jsonb_build_object('id', k.id, 'ordinal', k.ordinal, 'char_start', k.char_start,
        'char_end', k.char_end) order by k.ordinal), '[]')
      from public.chunks k where k.document_id = p_document_id),
    'near_duplicates', (
      select coalesce(jsonb_agg(jsonb_build_object('of_chunk_id', n.of_chunk_id, 'chunk_id', n.chunk_id,
        'document_id', n.document_id, 'document_name', d.name, 'similarity', n.similarity)), '[]')
      from private.near_chunks(p_document_id) n join public.documents d on d.id = n.document_id),
    'pairs', (
      select coalesce(jsonb_agg(jsonb_build_object('id', p.id, 'dataset_id', p.dataset_id, 'chunk_id', p.chunk_id,
        'char_start', p.char_start, 'char_end', p.char_end, 'is_valid', p.is_valid, 'split', p.split)
        order by p.created_at, p.ordinal, p.id), '[]')
      from public.training_pairs p where p.document_id = p_document_id),
    'datasets', (
      select coalesce(jsonb_agg(jsonb_build_object('id', s.id, 'name', s.name, 'status', s.status,
        'pair_count', n.pairs, 'usable_pair_count', n.usable) order by s.created_at), '[]')
      from (
        select p.dataset_id, count(*) as pairs,
          count(*) filter (where p.is_valid and p.review_status <> 'rejected') as usable
        from public.training_pairs p where p.document_id = p_document_id group by 1
      ) n join public.training_datasets s on s.id = n.dataset_id),
    'jobs', (
      select coalesce(jsonb_agg(jsonb_build_object('id', reached.id, 'status', j.status, 'model_name', j.model_name,
        'provider', j.provider, 'base_model', j.base_model, 'dataset_id', j.dataset_id, 'created_at', j.created_at,
        'from_model_id', reached.from_model_id, 'pair_ids', reached.pair_ids) order by j.created_at), '[]')
      from (
        select g.job_id as id, null::uuid as from_model_id, g.pair_ids from given g
        union all
        select l.id, l.from_model_id, '{}' from later_jobs l where l.id not in (select job_id from given)
      ) reached left join public.training_jobs j on j.id = reached.id),
    'models', (
      select coalesce(jsonb_agg(jsonb_build_object('id', m.id, 'name', m.name, 'version', m.version,
        'is_latest', m.is_latest, 'status', m.status, 'provider', m.provider,
        'provider_model_id', m.provider_model_id, 'job_id', m.job_id, 'from_model_id', m.from_model_id)
        order by m.created_at), '[]')
      from models m),
    'deployments', (
      select coalesce(jsonb_agg(jsonb_build_object('id', d.id, 'name', d.name, 'status', d.status,
        'model_id', m.id, 'slot', case when d.model_id = m.id then 'live' else 'candidate' end,
        'candidate_percent', d.candidate_percent) order by d.name), '[]')
      from models m join public.deployments d on m.id in (d.model_id, d.candidate_model_id))
  ) into reach;
  return reach;
end $$;
