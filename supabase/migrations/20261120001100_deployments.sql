-- A stable name that an app calls, and which model answers behind it. Rolling back is one row.

create table public.deployments (
  id uuid primary key default gen_random_uuid(),
  project_id uuid not null references public.projects (id) on delete cascade,
  name text not null check (name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
  kind text not null default 'chat' check (kind in ('chat', 'embedding')),
  status text not null default 'live' check (status in ('live', 'archived')),
  model_id uuid not null references public.fine_tuned_models (id),
  candidate_model_id uuid references public.fine_tuned_models (id) on delete set null,
  candidate_percent integer not null default 0 check (candidate_percent between 0 and 100),
  config jsonb not null default '{}',
  notes text check (length(notes) <= 2000),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (project_id, name)
);
comment on column public.deployments.candidate_percent is 'Share of calls that candidate_model_id answers; 0: none.';
create index deployments_model_id_idx on public.deployments (model_id);
create index deployments_candidate_model_id_idx on public.deployments (candidate_model_id);
create trigger touch_updated_at before update on public.deployments
  for each row execute function private.touch_updated_at();

create table public.deployment_history (
  id bigint generated always as identity primary key,
  deployment_id uuid not null references public.deployments (id) on delete cascade,
  project_id uuid not null references public.projects (id) on delete cascade,
  action text not null check (action in ('deploy', 'rollback', 'promote', 'archive', 'split')),
  from_model_id uuid references public.fine_tuned_models (id) on delete set null,
  to_model_id uuid references public.fine_tuned_models (id) on delete set null,
  deployed_by uuid references auth.users (id) on delete set null,
  notes text check (length(notes) <= 2000),
  config jsonb not null default '{}',
  created_at timestamptz not null default now()
);
create index deployment_history_deployment_id_idx on public.deployment_history (deployment_id, id desc);
create index deployment_history_project_id_idx on public.deployment_history (project_id);
create index deployment_history_from_model_id_idx on public.deployment_history (from_model_id);
create index deployment_history_to_model_id_idx on public.deployment_history (to_model_id);
create index deployment_history_deployed_by_idx on public.deployment_history (deployed_by);

revoke all on public.deployments, public.deployment_history from anon, authenticated, service_role;
grant select on public.deployments, public.deployment_history to authenticated;
grant select, insert, update, delete on public.deployments to service_role;
grant select, insert on public.deployment_history to service_role;

alter table public.deployments enable row level security;
alter table public.deployment_history enable row level security;
create policy "members see deployments" on public.deployments for select to authenticated
  using (project_id in (select private.my_projects()));
create policy "members see the history of deployments" on public.deployment_history for select to authenticated
  using (project_id in (select private.my_projects()));

create function public.deploy_model(
  p_model_id uuid, p_name text, p_user_id uuid, p_notes text default null, p_config jsonb default '{}'
) returns jsonb language plpgsql set search_path = '' as $$
declare
  model public.fine_tuned_models;
  previous uuid;
  live public.deployments;
begin
  select * into model from public.fine_tuned_models where id = p_model_id for share;
  if not found or model.status <> 'ready' then
    return jsonb_build_object('outcome', 'model_not_ready', 'status', model.status);
  end if;
  perform pg_advisory_xact_lock(hashtextextended(model.project_id::text || '@' || p_name, 0));
  select d.model_id into previous from public.deployments d
    where d.project_id = model.project_id and d.name = p_name for update;
  insert into public.deployments (project_id, name, model_id, notes, config)
    values (model.project_id, p_name, p_model_id, p_notes, p_config)
    on conflict (project_id, name) do update
      set model_id = excluded.model_id, notes = excluded.notes, config = excluded.config, status = 'live'
    returning * into live;
  insert into public.deployment_history
    (deployment_id, project_id, action, from_model_id, to_model_id, deployed_by, notes, config)
    values (live.id, live.project_id, 'deploy', previous, p_model_id, p_user_id, p_notes, p_config);
  return jsonb_build_object('outcome', 'deployed', 'deployment', to_jsonb(live), 'previous_model_id', previous);
end $$;
comment on function public.deploy_model(uuid, text, uuid, text, jsonb) is
  'The name answers with this model, and history says who did it: one transaction.';
revoke execute on function public.deploy_model(uuid, text, uuid, text, jsonb) from public, anon, authenticated;
grant execute on function public.deploy_model(uuid, text, uuid, text, jsonb) to service_role;
