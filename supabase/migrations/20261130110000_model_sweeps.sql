-- Pieces of models that nobody needs any more: of deleted models, of jobs that ended without one, of earlier
-- attempts, of what was deleted with its project. Only Storage itself deletes a file with its row; here is said which.

create table private.model_sweep (
  is_single boolean primary key default true check (is_single),
  next_at timestamptz not null default now()
);
comment on table private.model_sweep is 'One row: when pieces are looked for again.';
insert into private.model_sweep default values;
grant select, update on private.model_sweep to service_role;

-- A folder is <project id>/<job id>/<attempt>. One that is not needed never is again: it takes a model that is ready
-- to deploy it or to train from it, and a new attempt has a folder of its own. So what is named here may be deleted
-- later, and twice. A day passes first, for who deleted by mistake and for what is still on its way.
create function private.unneeded_pieces(p_limit integer) returns setof text
language sql stable set search_path = '' as $$
  with pieces as (
    select o.name, o.created_at,
      substring(o.name from '^((?:[0-9a-f-]{36}/){2}[1-9][0-9]{0,5})/[0-9a-f]{64}$') as folder
    from storage.objects o where o.bucket_id = 'models'
  ), folders as (
    select distinct p.folder from pieces p where p.folder is not null
  ), needed as (
    select substring(m.artifact_path from '^storage:(.+)/[0-9a-f]{64}$') as folder
    from public.fine_tuned_models m
    where starts_with(m.artifact_path, 'storage:') and (
      m.status <> 'deleted' or m.updated_at > now() - interval '1 day'
      or exists (select from public.deployments d where m.id in (d.model_id, d.candidate_model_id))
      or exists (select from public.fine_tuned_models c where c.parent_model_id = m.id and c.status <> 'deleted')
      or exists (select from public.training_jobs j
        where j.parent_model_id = m.id and j.status not in ('completed', 'failed', 'cancelled')))
    union all
    select f.folder from folders f
    join public.training_jobs j on j.id::text = split_part(f.folder, '/', 2)
    where j.status not in ('completed', 'failed', 'cancelled') and j.attempt <= split_part(f.folder, '/', 3)::integer
  )
  select p.name from pieces p
  where p.created_at < now() - interval '1 day'
    and p.folder in (select f.folder from folders f except select n.folder from needed n)
  order by p.name limit p_limit
$$;
grant execute on function private.unneeded_pieces(integer) to service_role;

create function public.claim_model_sweep(p_limit integer, p_every_seconds double precision) returns jsonb
language plpgsql set search_path = '' as $$
declare
  names jsonb;
begin
  update private.model_sweep set next_at = now() + make_interval(secs => p_every_seconds) where next_at <= now();
  if not found then
    return '[]';
  end if;
  select coalesce(jsonb_agg(u), '[]') into names from private.unneeded_pieces(p_limit) u;
  if jsonb_array_length(names) = p_limit then
    update private.model_sweep set next_at = now();
  end if;
  return names;
end $$;
comment on function public.claim_model_sweep(integer, double precision) is
  'Pieces in the bucket models to delete now. Empty: none, or they were looked for less than p_every_seconds ago.';
revoke execute on function public.claim_model_sweep(integer, double precision) from public, anon, authenticated;
grant execute on function public.claim_model_sweep(integer, double precision) to service_role;
