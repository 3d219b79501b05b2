-- The registry: every model that a job made, numbered within its project and name.

create table public.fine_tuned_models (
  id uuid primary key default gen_random_uuid(),
  project_id uuid not null references public.projects (id) on delete cascade,
  job_id uuid unique references public.training_jobs (id) on delete set null,
  dataset_id uuid references public.training_datasets (id) on delete set null,
  created_by uuid references auth.users (id) on delete set null,
  name text not null check (length(trim(name)) between 1 and 120),
  version integer not null,
  is_latest boolean not null default true,
  tag text check (length(tag) <= 60),
  tags text[] not null default '{}',
  description text check (length(description) <= 2000),
  notes text check (length(notes) <= 8000),
  status text not null default 'ready' check (status in ('training', 'ready', 'failed', 'deleted')),
  provider text not null,
  provider_model_id text,
  base_model text not null,
  method text not null,
  artifact_path text,
  artifact_bytes bigint,
  template_fingerprint text,
  training_examples integer,
  validation_examples integer,
  epochs integer,
  cost_usd numeric(12, 6),
  shutdown_date date,
  metrics jsonb not null default '{}',
  recipe jsonb not null default '{}',
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (project_id, name, version)
);
comment on column public.fine_tuned_models.artifact_path is 'Where the weights are, as the serving side addresses them; null: the provider keeps them.';
comment on column public.fine_tuned_models.shutdown_date is 'When the provider stops serving it; null: never, or not known.';
comment on column public.fine_tuned_models.recipe is 'What repeats the training: base, revision, dataset hash, configuration, seed, versions.';
create index fine_tuned_models_project_id_idx on public.fine_tuned_models (project_id, created_at desc);
create unique index fine_tuned_models_one_latest_idx on public.fine_tuned_models (project_id, name) where is_latest;
create index fine_tuned_models_dataset_id_idx on public.fine_tuned_models (dataset_id);
create index fine_tuned_models_created_by_idx on public.fine_tuned_models (created_by);
create trigger touch_updated_at before update on public.fine_tuned_models
  for each row execute function private.touch_updated_at();

-- Numbers are given under a lock on (project, name), so that two jobs that end together get two of them.
create function private.number_model() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  perform pg_advisory_xact_lock(hashtextextended(new.project_id::text || '/' || new.name, 0));
  select coalesce(max(m.version), 0) + 1 into new.version
    from public.fine_tuned_models m where m.project_id = new.project_id and m.name = new.name;
  update public.fine_tuned_models set is_latest = false
    where project_id = new.project_id and name = new.name and is_latest;
  new.is_latest := true;
  return new;
end $$;
create trigger number_model before insert on public.fine_tuned_models
  for each row execute function private.number_model();

alter table public.training_jobs add constraint training_jobs_model_id_fkey
  foreign key (model_id) references public.fine_tuned_models (id) on delete set null;

revoke all on public.fine_tuned_models from anon, authenticated, service_role;
grant select on public.fine_tuned_models to authenticated;
grant update (tag, tags, description, notes) on public.fine_tuned_models to authenticated;
grant select, insert, update, delete on public.fine_tuned_models to service_role;

alter table public.fine_tuned_models enable row level security;
create policy "members see models" on public.fine_tuned_models for select to authenticated
  using (project_id in (select private.my_projects()));
create policy "editors describe models" on public.fine_tuned_models for update to authenticated
  using (project_id in (select private.my_projects('editor')))
  with check (project_id in (select private.my_projects('editor')));
