-- Every call of a model: who asked, what it took, how it went.

create table public.model_usage (
  id bigint generated always as identity primary key,
  project_id uuid not null references public.projects (id) on delete cascade,
  model_id uuid references public.fine_tuned_models (id) on delete set null,
  deployment_id uuid references public.deployments (id) on delete set null,
  user_id uuid references auth.users (id) on delete set null,
  base_model text,
  node_type text not null default 'api' check (length(node_type) <= 60),
  execution_id text check (length(execution_id) <= 200),
  prompt_tokens integer not null default 0 check (prompt_tokens >= 0),
  completion_tokens integer not null default 0 check (completion_tokens >= 0),
  latency_ms integer not null check (latency_ms >= 0),
  cost_usd numeric(12, 8) not null default 0,
  error_code text check (length(error_code) <= 60),
  feedback smallint check (feedback in (-1, 1)),
  used_at timestamptz not null default now()
);
comment on column public.model_usage.model_id is 'null: a base model was asked, named in base_model.';
comment on column public.model_usage.error_code is 'null: the call succeeded.';
create index model_usage_project_id_idx on public.model_usage (project_id, used_at desc);
create index model_usage_model_id_idx on public.model_usage (model_id, used_at desc);
create index model_usage_deployment_id_idx on public.model_usage (deployment_id);
create index model_usage_user_id_idx on public.model_usage (user_id);

revoke all on public.model_usage from anon, authenticated, service_role;
grant select on public.model_usage to authenticated;
grant select, insert on public.model_usage to service_role;

alter table public.model_usage enable row level security;
create policy "members see usage" on public.model_usage for select to authenticated
  using (project_id in (select private.my_projects()));
