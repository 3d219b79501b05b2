-- Questions that went to a vendor as one batch, answered within a day at half the price. A row is the intent: it is
-- there before the vendor is called, so a batch that was submitted by a function that died is looked for, and not
-- submitted again.

create table public.generation_batches (
  id uuid primary key default gen_random_uuid(),
  dataset_id uuid not null references public.training_datasets (id) on delete cascade,
  project_id uuid not null references public.projects (id) on delete cascade,
  status text not null default 'intended' check (status in ('intended', 'submitted', 'ended', 'failed')),
  request_count integer not null,
  provider_batch_id text,
  not_ours text[] not null default '{}',
  attempts integer not null default 0,
  lease_token uuid,
  lease_expires_at timestamptz,
  error jsonb,
  intended_at timestamptz not null default now(),
  submitted_at timestamptz,
  ended_at timestamptz
);
comment on column public.generation_batches.provider_batch_id is 'null: not known to be submitted.';
comment on column public.generation_batches.not_ours is 'Batches of the vendor that looked like this one and were not.';
comment on column public.generation_batches.attempts is 'How often somebody has tried to submit it.';
create index generation_batches_dataset_id_idx on public.generation_batches (dataset_id, intended_at);
create index generation_batches_project_id_idx on public.generation_batches (project_id);

revoke all on public.generation_batches from anon, authenticated, service_role;
grant select on public.generation_batches to authenticated;
grant select, insert, update, delete on public.generation_batches to service_role;
alter table public.generation_batches enable row level security;
create policy "members see batches" on public.generation_batches for select to authenticated
  using (project_id in (select private.my_projects()));

alter table public.dataset_chunks
  add column batch_id uuid references public.generation_batches (id) on delete set null,
  add column is_answered boolean not null default false;
comment on column public.dataset_chunks.batch_id is 'The batch that its question is in; null: in none, or it has ended.';
comment on column public.dataset_chunks.is_answered is 'A batch has brought an answer, of which pairs are to be made.';
create index dataset_chunks_batch_id_idx on public.dataset_chunks (batch_id) where batch_id is not null;
