-- Datasets, and the work items that make one from chunks.

create table public.training_datasets (
  id uuid primary key default gen_random_uuid(),
  project_id uuid not null references public.projects (id) on delete cascade,
  created_by uuid references auth.users (id) on delete set null,
  name text not null check (length(trim(name)) between 1 and 120),
  format text not null default 'openai' check (format in ('openai', 'anthropic', 'alpaca', 'sharegpt', 'chatml')),
  mode text not null default 'auto' check (mode in ('auto', 'qa', 'instruction', 'conversation')),
  system_prompt text check (length(system_prompt) <= 8000),
  document_ids uuid[],
  source text not null default 'documents' check (source in ('documents', 'upload', 'rows', 'conversations')),
  status text not null default 'draft'
    check (status in ('draft', 'generating', 'ready', 'training', 'failed', 'archived')),
  generation jsonb not null default '{}',
  chunk_count integer not null default 0,
  chunks_done integer not null default 0,
  chunks_failed integer not null default 0,
  pair_count integer not null default 0,
  stats jsonb not null default '{}',
  validation jsonb,
  split jsonb,
  content_hash text,
  error jsonb,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
comment on column public.training_datasets.document_ids is 'null: all ready documents of the project.';
comment on column public.training_datasets.generation is 'How pairs are made: {generator, model, pairs_per_chunk, max_pairs}.';
comment on column public.training_datasets.validation is 'The last ValidationResult; null: not validated yet.';
create index training_datasets_project_id_idx on public.training_datasets (project_id, created_at desc);
create index training_datasets_created_by_idx on public.training_datasets (created_by);
create index training_datasets_generating_idx on public.training_datasets (updated_at) where status = 'generating';
create trigger touch_updated_at before update on public.training_datasets
  for each row execute function private.touch_updated_at();

create table public.dataset_chunks (
  id uuid primary key default gen_random_uuid(),
  dataset_id uuid not null references public.training_datasets (id) on delete cascade,
  chunk_id uuid not null references public.chunks (id) on delete cascade,
  project_id uuid not null references public.projects (id) on delete cascade,
  ordinal integer not null,
  status text not null default 'pending' check (status in ('pending', 'working', 'done', 'failed')),
  attempts integer not null default 0,
  lease_token uuid,
  lease_expires_at timestamptz,
  pair_count integer not null default 0,
  filtered_count integer not null default 0,
  prompt_tokens integer not null default 0,
  completion_tokens integer not null default 0,
  error jsonb,
  updated_at timestamptz not null default now(),
  unique (dataset_id, chunk_id)
);
comment on column public.dataset_chunks.filtered_count is 'Pairs that the generator returned and the checks refused.';
create index dataset_chunks_open_idx on public.dataset_chunks (dataset_id, ordinal)
  where status in ('pending', 'working');
create index dataset_chunks_chunk_id_idx on public.dataset_chunks (chunk_id);
create index dataset_chunks_project_id_idx on public.dataset_chunks (project_id);

revoke all on public.training_datasets, public.dataset_chunks from anon, authenticated, service_role;
grant select, delete on public.training_datasets to authenticated;
grant update (name) on public.training_datasets to authenticated;
grant select on public.dataset_chunks to authenticated;
grant select, insert, update, delete on public.training_datasets, public.dataset_chunks to service_role;

alter table public.training_datasets enable row level security;
alter table public.dataset_chunks enable row level security;

create policy "members see datasets" on public.training_datasets for select to authenticated
  using (project_id in (select private.my_projects()));
create policy "editors rename datasets" on public.training_datasets for update to authenticated
  using (project_id in (select private.my_projects('editor')))
  with check (project_id in (select private.my_projects('editor')));
create policy "editors delete datasets" on public.training_datasets for delete to authenticated
  using (project_id in (select private.my_projects('editor')));
create policy "members see generation work" on public.dataset_chunks for select to authenticated
  using (project_id in (select private.my_projects()));
