-- Datasets that are made of rows somebody has: how far each is stands on its own row, what is left to read beside it.

alter table public.training_datasets
  add column file_count integer not null default 0,
  add column files_done integer not null default 0,
  add column byte_count bigint not null default 0,
  add column bytes_done bigint not null default 0,
  add column rows_done integer not null default 0,
  add column import_report jsonb;
comment on column public.training_datasets.file_count is 'Files, or lists of rows, that it is imported from; 0: it is not.';
comment on column public.training_datasets.rows_done is 'Rows that were read, those included that became no pair.';
comment on column public.training_datasets.import_report is
  'What was found in each file, and how it was read: {files, totals, options}; null: not imported, or not yet.';

create table private.dataset_imports (
  dataset_id uuid primary key references public.training_datasets (id) on delete cascade,
  project_id uuid not null references public.projects (id) on delete cascade,
  idempotency_key text not null check (length(idempotency_key) <= 200),
  request_hash text not null,
  files jsonb not null,
  rows text,
  options jsonb not null,
  files_done integer not null default 0,
  items_done integer not null default 0,
  state jsonb not null default '{}',
  reports jsonb not null default '[]',
  attempts integer not null default 0,
  lease_token uuid,
  lease_expires_at timestamptz,
  ended_at timestamptz,
  unique (project_id, idempotency_key)
);
comment on column private.dataset_imports.files is
  '[{path, name, byte_size, version}] in the order of reading; a path of null: `rows` is what it holds.';
comment on column private.dataset_imports.rows is 'JSON Lines that came with the call; null: none, or done with.';
comment on column private.dataset_imports.items_done is 'Rows and findings of the file that is being read.';
comment on column private.dataset_imports.state is 'What was found in that file so far; its reader knows the shape.';
comment on column private.dataset_imports.attempts is 'Calls that took it up since something was last stored.';
revoke all on private.dataset_imports from public, anon, authenticated;
grant select, insert, update, delete on private.dataset_imports to service_role;
