-- Named settings for training: some that everybody finds here, and a project's own.

create table public.training_templates (
  id uuid primary key default gen_random_uuid(),
  project_id uuid references public.projects (id) on delete cascade,
  name text not null check (length(trim(name)) between 1 and 80),
  description text not null default '' check (length(description) <= 500),
  method text not null check (method in ('full', 'lora', 'qlora', 'dpo', 'orpo', 'kto', 'embedding')),
  base_model text check (length(base_model) between 1 and 1001),
  training_config jsonb not null default '{}'
    check (jsonb_typeof(training_config) = 'object' and pg_column_size(training_config) <= 8192),
  created_by uuid default auth.uid() references auth.users (id) on delete set null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique nulls not distinct (project_id, name)
);
comment on column public.training_templates.project_id is 'null: built in, for everybody.';
comment on column public.training_templates.base_model is 'null: whoever starts the training names one.';
comment on column public.training_templates.training_config is
  'What is set; the rest stays automatic. Checked against the schema of start-training when it is used.';
create index training_templates_created_by_idx on public.training_templates (created_by);
create trigger touch_updated_at before update on public.training_templates
  for each row execute function private.touch_updated_at();

revoke all on public.training_templates from anon, authenticated, service_role;
grant select, delete on public.training_templates to authenticated;
grant insert (project_id, name, description, method, base_model, training_config)
  on public.training_templates to authenticated;
grant update (name, description, method, base_model, training_config) on public.training_templates to authenticated;
grant select, insert, update, delete on public.training_templates to service_role;

alter table public.training_templates enable row level security;
create policy "users see built-in templates and those of their projects" on public.training_templates
  for select to authenticated
  using (project_id is null or project_id in (select private.my_projects()));
create policy "editors add templates" on public.training_templates for insert to authenticated
  with check (project_id in (select private.my_projects('editor')));
create policy "editors change templates" on public.training_templates for update to authenticated
  using (project_id in (select private.my_projects('editor')))
  with check (project_id in (select private.my_projects('editor')));
create policy "editors delete templates" on public.training_templates for delete to authenticated
  using (project_id in (select private.my_projects('editor')));

insert into public.training_templates (name, description, method, base_model, training_config) values
  ('quick-try',
   'One pass with small adapters: whether these rows teach anything, in minutes.',
   'lora', null, '{"epochs": 1, "lora_r": 8, "lora_alpha": 16, "max_length": 512}'),
  ('balanced',
   'Adapters of rank 16 on all linear layers, three passes: the place to start.',
   'lora', null, '{}'),
  ('quality',
   'Four times as large adapters, five slower passes. Takes longer; needs a thousand rows or more to be worth it.',
   'lora', null,
   '{"epochs": 5, "lora_r": 64, "lora_alpha": 128, "learning_rate_multiplier": 0.5, "lr_scheduler": "cosine"}'),
  ('small-gpu',
   'The frozen weights in 4 bits: about a third of the memory, at the price of speed.',
   'qlora', null, '{}'),
  ('preference-after-sft',
   'One pass over better and worse answers. Give a model that was trained on answers first as base model.',
   'dpo', null, '{"epochs": 1}'),
  ('embeddings',
   'A small English embedding model learns to find the answers to your questions.',
   'embedding', 'sentence-transformers/all-MiniLM-L6-v2', '{}');
