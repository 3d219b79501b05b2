-- Random samples of the pairs of a dataset, judged one by one: what an acceptance certificate rests on.

create table public.review_samples (
  id uuid primary key default gen_random_uuid(),
  dataset_id uuid not null references public.training_datasets (id) on delete cascade,
  project_id uuid not null references public.projects (id) on delete cascade,
  drawn_by uuid references auth.users (id) on delete set null,
  max_bad_share double precision not null check (max_bad_share > 0 and max_bad_share < 1),
  confidence double precision not null check (confidence > 0.5 and confidence < 1),
  pair_count integer not null check (pair_count >= 1),
  looks jsonb not null,
  others_hash text not null,
  certificate jsonb,
  certified_hash text,
  certified_at timestamptz,
  -- Not that of the transaction: the newest of a dataset is the one that counts.
  created_at timestamptz not null default clock_timestamp()
);
comment on column public.review_samples.pair_count is 'The usable pairs that it was drawn from.';
comment on column public.review_samples.looks is
  'When the sample is looked at: [{pairs, allowed_bad}], the first so many pairs judged and at most so many bad.';
comment on column public.review_samples.others_hash is 'Of the usable pairs that were not drawn, as they were.';
comment on column public.review_samples.certificate is 'null: not granted. {pairs, reviewed, bad, bad_share_bound, ...}';
comment on column public.review_samples.certified_hash is
  'Of the usable pairs when it was granted; another one now: it is stale.';
create index review_samples_dataset_id_idx on public.review_samples (dataset_id, created_at desc);
create index review_samples_project_id_idx on public.review_samples (project_id);
create index review_samples_drawn_by_idx on public.review_samples (drawn_by);

create table public.review_sample_pairs (
  sample_id uuid not null references public.review_samples (id) on delete cascade,
  position integer not null check (position >= 1),
  pair_id uuid not null,
  project_id uuid not null references public.projects (id) on delete cascade,
  verdict text check (verdict in ('good', 'bad')),
  judged_by uuid references auth.users (id) on delete set null,
  judged_at timestamptz,
  batch_id uuid,
  primary key (sample_id, position)
);
-- No key leads to the pair: one that is deleted was a bad one, and stays counted.
comment on column public.review_sample_pairs.position is 'The order in which it was drawn, from 1.';
comment on column public.review_sample_pairs.verdict is 'null: not judged yet.';
comment on column public.review_sample_pairs.batch_id is
  'The call that judged it; undoing that one takes the verdict back.';
create index review_sample_pairs_pair_id_idx on public.review_sample_pairs (pair_id);
create index review_sample_pairs_project_id_idx on public.review_sample_pairs (project_id);
create index review_sample_pairs_judged_by_idx on public.review_sample_pairs (judged_by);
create index review_sample_pairs_batch_id_idx on public.review_sample_pairs (batch_id);

revoke all on public.review_samples, public.review_sample_pairs from anon, authenticated, service_role;
grant select on public.review_samples, public.review_sample_pairs to authenticated;
grant select, delete on public.review_samples, public.review_sample_pairs to service_role;

alter table public.review_samples enable row level security;
alter table public.review_sample_pairs enable row level security;
create policy "members see samples" on public.review_samples for select to authenticated
  using (project_id in (select private.my_projects()));
create policy "members see what was drawn" on public.review_sample_pairs for select to authenticated
  using (project_id in (select private.my_projects()));

-- The verdict of a batch on what was drawn from the dataset: bad when a pair was rejected, deleted or had to be
-- edited, however that came about; good when it was approved by its id. What was bad once stays bad: that it was
-- mended says nothing about the pairs that nobody looked at.
create function private.judge_sample(p_batch_id uuid, p_dataset_id uuid, p_verdict text, p_pair_ids uuid[] default '{}')
returns void language sql set search_path = '' as $$
  update public.review_sample_pairs s
    set verdict = p_verdict, judged_by = auth.uid(), judged_at = now(), batch_id = p_batch_id
    where s.sample_id in (select a.id from public.review_samples a where a.dataset_id = p_dataset_id)
      and (s.pair_id in (select unnest(p_pair_ids))
        or s.pair_id in (select r.pair_id from public.pair_revisions r where r.batch_id = p_batch_id))
      and coalesce(s.verdict, 'good') = 'good' and s.verdict is distinct from p_verdict
$$;
