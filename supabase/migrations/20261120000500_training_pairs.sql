-- What a model is trained on, each pair with the place it came from.

create table public.training_pairs (
  id uuid primary key default gen_random_uuid(),
  dataset_id uuid not null references public.training_datasets (id) on delete cascade,
  project_id uuid not null references public.projects (id) on delete cascade,
  chunk_id uuid references public.chunks (id) on delete set null,
  ordinal integer not null,
  kind text not null default 'sft' check (kind in ('sft', 'preference')),
  messages jsonb,
  system_message text,
  user_message text,
  assistant_message text,
  rejected_message text,
  char_start integer,
  char_end integer,
  quality_score real check (quality_score between 0 and 1),
  grounding_score real check (grounding_score between 0 and 1),
  token_count integer check (token_count >= 0),
  is_valid boolean not null default true,
  issues text[] not null default '{}',
  review_status text not null default 'pending' check (review_status in ('pending', 'approved', 'rejected')),
  is_gold_star boolean not null default false,
  rating smallint check (rating between 1 and 5),
  split text check (split in ('train', 'validation', 'test')),
  cluster_id uuid,
  generator text,
  prompt_hash text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint pair_has_content check (messages is not null or (user_message is not null and assistant_message is not null)),
  constraint preference_has_rejected check (kind <> 'preference' or rejected_message is not null)
);
comment on column public.training_pairs.messages is 'A conversation of more than one turn; null: the three message columns are the pair.';
comment on column public.training_pairs.char_start is 'The span in the document that the answer rests on; null: not from a document.';
comment on column public.training_pairs.split is 'null: not split yet.';
-- A chunk that is worked on twice cannot store its pairs twice.
create unique index training_pairs_once_idx on public.training_pairs (dataset_id, chunk_id, ordinal);
create index training_pairs_dataset_id_idx on public.training_pairs (dataset_id, created_at, ordinal);
create index training_pairs_project_id_idx on public.training_pairs (project_id);
create index training_pairs_chunk_id_idx on public.training_pairs (chunk_id);
create trigger touch_updated_at before update on public.training_pairs
  for each row execute function private.touch_updated_at();

revoke all on public.training_pairs from anon, authenticated, service_role;
grant select on public.training_pairs to authenticated;
grant select, insert, update, delete on public.training_pairs to service_role;

alter table public.training_pairs enable row level security;
create policy "members see pairs" on public.training_pairs for select to authenticated
  using (project_id in (select private.my_projects()));
