-- Files that a user uploads, and the pieces of text they are cut into.

create table public.documents (
  id uuid primary key default gen_random_uuid(),
  project_id uuid not null references public.projects (id) on delete cascade,
  created_by uuid default auth.uid() references auth.users (id) on delete set null,
  name text not null check (length(trim(name)) between 1 and 255),
  storage_path text not null unique check (length(storage_path) <= 1000),
  mime_type text not null check (length(mime_type) <= 255),
  byte_size bigint not null check (byte_size >= 0),
  status text not null default 'uploaded' check (status in ('uploaded', 'processing', 'ready', 'failed')),
  content_hash text,
  chunk_count integer not null default 0,
  token_count integer not null default 0,
  error jsonb,
  attempts integer not null default 0,
  lease_token uuid,
  lease_expires_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  -- The first folder is what storage policies check, so a row cannot point into another project.
  constraint storage_path_is_in_project check (split_part(storage_path, '/', 1) = project_id::text)
);
comment on column public.documents.error is 'null unless failed: {code, message}.';
create index documents_project_id_idx on public.documents (project_id, created_at desc);
create index documents_created_by_idx on public.documents (created_by);
create index documents_unfinished_idx on public.documents (updated_at) where status in ('uploaded', 'processing');
create trigger touch_updated_at before update on public.documents
  for each row execute function private.touch_updated_at();

create table public.chunks (
  id uuid primary key default gen_random_uuid(),
  document_id uuid not null references public.documents (id) on delete cascade,
  project_id uuid not null references public.projects (id) on delete cascade,
  ordinal integer not null check (ordinal >= 0),
  content text not null,
  content_hash text not null,
  char_start integer not null check (char_start >= 0),
  char_end integer not null,
  heading_path text[] not null default '{}',
  token_count integer not null check (token_count >= 0),
  quality_score real not null check (quality_score between 0 and 1),
  is_duplicate boolean not null default false,
  duplicate_of uuid references public.chunks (id) on delete set null,
  injection_flags text[] not null default '{}',
  created_at timestamptz not null default now(),
  unique (document_id, ordinal),
  constraint span_is_not_empty check (char_end > char_start)
);
comment on column public.chunks.char_start is 'Characters into the extracted text of the document; char_end is exclusive.';
create index chunks_project_id_idx on public.chunks (project_id, content_hash);
create index chunks_duplicate_of_idx on public.chunks (duplicate_of);

revoke all on public.documents, public.chunks from anon, authenticated, service_role;
grant select, delete on public.documents to authenticated;
grant insert (id, project_id, name, storage_path, mime_type, byte_size) on public.documents to authenticated;
grant update (name) on public.documents to authenticated;
grant select on public.chunks to authenticated;
grant select, insert, update, delete on public.documents, public.chunks to service_role;

alter table public.documents enable row level security;
alter table public.chunks enable row level security;

create policy "members see documents" on public.documents for select to authenticated
  using (project_id in (select private.my_projects()));
create policy "editors add documents" on public.documents for insert to authenticated
  with check (project_id in (select private.my_projects('editor')));
create policy "editors rename documents" on public.documents for update to authenticated
  using (project_id in (select private.my_projects('editor')))
  with check (project_id in (select private.my_projects('editor')));
create policy "editors delete documents" on public.documents for delete to authenticated
  using (project_id in (select private.my_projects('editor')));
create policy "members see chunks" on public.chunks for select to authenticated
  using (project_id in (select private.my_projects()));
