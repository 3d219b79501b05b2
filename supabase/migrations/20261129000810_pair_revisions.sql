-- What reviewers did to pairs, each step with what was there before: what undo, preferences and audits read.

alter table public.training_pairs add column revision integer not null default 0 check (revision >= 0);
comment on column public.training_pairs.revision is 'How many steps of review the pair has been through.';

create table public.pair_revisions (
  id bigint generated always as identity primary key,
  pair_id uuid not null,
  dataset_id uuid not null references public.training_datasets (id) on delete cascade,
  project_id uuid not null references public.projects (id) on delete cascade,
  revision integer not null check (revision >= 1),
  batch_id uuid not null,
  action text not null
    check (action in ('edit', 'approve', 'reject', 'reset', 'gold_star', 'no_gold_star', 'rate', 'delete', 'restore',
      'undo')),
  before jsonb,
  after jsonb,
  undoes bigint references public.pair_revisions (id) on delete cascade,
  changed_by uuid default auth.uid() references auth.users (id) on delete set null,
  changed_at timestamptz not null default now(),
  unique (pair_id, revision),
  constraint something_changed check (before is distinct from after),
  constraint undo_names_what_it_undoes check ((action = 'undo') = (undoes is not null))
);
-- No key leads to the pair: the history of a deleted pair is what restores it.
comment on column public.pair_revisions.revision is 'The pair''s own count after this step.';
comment on column public.pair_revisions.batch_id is 'What one call did; undo takes it back as a whole.';
comment on column public.pair_revisions.before is 'The changed columns as they were; null: the pair was not there.';
comment on column public.pair_revisions.after is 'The changed columns as they became; null: the pair was deleted.';
comment on column public.pair_revisions.undoes is 'The revision that this one takes back; null unless action is undo.';
create index pair_revisions_dataset_id_idx on public.pair_revisions (dataset_id, id desc);
create index pair_revisions_project_id_idx on public.pair_revisions (project_id);
create index pair_revisions_batch_id_idx on public.pair_revisions (batch_id);
create index pair_revisions_undoes_idx on public.pair_revisions (undoes);
create index pair_revisions_changed_by_idx on public.pair_revisions (changed_by);

revoke all on public.pair_revisions from anon, authenticated, service_role;
grant select on public.pair_revisions to authenticated;
-- Append-only. Delete is for text that must be forgotten.
grant select, delete on public.pair_revisions to service_role;

alter table public.pair_revisions enable row level security;
create policy "members see what reviewers did" on public.pair_revisions for select to authenticated
  using (project_id in (select private.my_projects()));

-- The last step of each pair that was neither taken back nor is itself an undo: what undo would take back next.
create function private.last_steps(p_pair_ids uuid[]) returns setof public.pair_revisions
language sql stable set search_path = '' as $$
  select distinct on (r.pair_id) r.* from public.pair_revisions r
  where r.pair_id in (select unnest(p_pair_ids)) and r.action <> 'undo'
    and not exists (select from public.pair_revisions u where u.undoes = r.id)
  order by r.pair_id, r.revision desc
$$;

-- The number of the next step of a pair, also of one that is not there.
create function private.next_revision(p_pair_id uuid) returns integer
language sql stable set search_path = '' as $$
  select 1 + coalesce((select p.revision from public.training_pairs p where p.id = p_pair_id),
    (select max(r.revision) from public.pair_revisions r where r.pair_id = p_pair_id))
$$;
