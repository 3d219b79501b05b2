-- What a run on a dataset would learn, for each base model that it was looked at with.

create table public.dataset_xrays (
  dataset_id uuid not null references public.training_datasets (id) on delete cascade,
  base_model text not null check (length(base_model) <= 1001),
  max_length_tokens integer not null check (max_length_tokens >= 1),
  project_id uuid not null references public.projects (id) on delete cascade,
  content_hash text not null,
  totals jsonb not null,
  made_at timestamptz not null default now(),
  primary key (dataset_id, base_model, max_length_tokens)
);
comment on column public.dataset_xrays.max_length_tokens is 'As in the configuration of a job; a longer row is left out.';
comment on column public.dataset_xrays.content_hash is
  'SHA-256 of the training file that was looked at; another one today: the dataset has changed since.';
comment on column public.dataset_xrays.totals is
  'Over one epoch: {rows, used_rows, rows_that_teach, left_out_rows, refused_rows, trained_tokens, masked_tokens, left_out_tokens, longest_row_tokens}.';
create index dataset_xrays_project_id_idx on public.dataset_xrays (project_id);

revoke all on public.dataset_xrays from anon, authenticated, service_role;
grant select on public.dataset_xrays to authenticated;
grant select, insert, update, delete on public.dataset_xrays to service_role;

alter table public.dataset_xrays enable row level security;
create policy "members see what would be learned" on public.dataset_xrays for select to authenticated
  using (project_id in (select private.my_projects()));
