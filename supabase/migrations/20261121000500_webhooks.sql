-- Outgoing webhooks: where a project wants to be told of its jobs, what signs the telling, and what was told.

create table public.webhook_endpoints (
  id uuid primary key default gen_random_uuid(),
  project_id uuid not null references public.projects (id) on delete cascade,
  created_by uuid references auth.users (id) on delete set null,
  url text not null check (length(url) <= 2000 and url ~ '^https?://'),
  description text not null default '' check (length(description) <= 200),
  events text[] not null default array['finetune_job_started', 'finetune_job_progress', 'finetune_job_completed',
      'finetune_job_failed', 'finetune_job_cancelled']
    check (cardinality(events) > 0 and events <@ array['finetune_job_started', 'finetune_job_progress',
      'finetune_job_completed', 'finetune_job_failed', 'finetune_job_cancelled']),
  enabled boolean not null default true,
  disabled_reason text check (length(disabled_reason) <= 500),
  failing_since timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
comment on column public.webhook_endpoints.disabled_reason is 'Why FineFlow disabled it; null: it did not.';
comment on column public.webhook_endpoints.failing_since is 'The first failed attempt after the last good one; null: the last was good.';
create index webhook_endpoints_project_id_idx on public.webhook_endpoints (project_id);
create index webhook_endpoints_created_by_idx on public.webhook_endpoints (created_by);
create trigger touch_updated_at before update on public.webhook_endpoints
  for each row execute function private.touch_updated_at();

create table public.webhook_secrets (
  id uuid primary key default gen_random_uuid(),
  endpoint_id uuid not null references public.webhook_endpoints (id) on delete cascade,
  project_id uuid not null references public.projects (id) on delete cascade,
  ciphertext text not null,
  key_id text not null,
  last_four text not null check (length(last_four) = 4),
  created_at timestamptz not null default now(),
  expires_at timestamptz
);
comment on column public.webhook_secrets.ciphertext is 'AES-256-GCM bound to the endpoint and key_id. No client may read it.';
comment on column public.webhook_secrets.key_id is 'Which master secret sealed it.';
comment on column public.webhook_secrets.expires_at is 'Until when a replaced secret still signs; null: the present one.';
create unique index webhook_secrets_present_idx on public.webhook_secrets (endpoint_id) where expires_at is null;
create index webhook_secrets_endpoint_id_idx on public.webhook_secrets (endpoint_id);
create index webhook_secrets_project_id_idx on public.webhook_secrets (project_id);
create index webhook_secrets_key_id_idx on public.webhook_secrets (key_id);

create table public.webhook_deliveries (
  id uuid primary key default gen_random_uuid(),
  endpoint_id uuid not null references public.webhook_endpoints (id) on delete cascade,
  project_id uuid not null references public.projects (id) on delete cascade,
  job_id uuid references public.training_jobs (id) on delete cascade,
  event_id uuid not null,
  type text not null check (length(type) <= 60),
  payload jsonb not null check (octet_length(payload::text) < 20000),
  status text not null default 'pending' check (status in ('pending', 'delivered', 'dead', 'skipped')),
  attempts integer not null default 0,
  next_attempt_at timestamptz not null default now(),
  last_attempt_at timestamptz,
  last_status_code integer,
  last_error text check (length(last_error) <= 500),
  delivered_at timestamptz,
  lease_token uuid,
  lease_expires_at timestamptz,
  created_at timestamptz not null default now()
);
comment on column public.webhook_deliveries.job_id is 'null: a ping.';
comment on column public.webhook_deliveries.event_id is 'The webhook-id header: the same at each attempt and at each endpoint.';
comment on column public.webhook_deliveries.status is 'dead: given up, can be sent again. skipped: a progress that a later event made old.';
comment on column public.webhook_deliveries.last_status_code is 'null: nobody answered.';
create index webhook_deliveries_due_idx on public.webhook_deliveries (endpoint_id, next_attempt_at) where status = 'pending';
create index webhook_deliveries_held_idx on public.webhook_deliveries (endpoint_id) where lease_token is not null;
create index webhook_deliveries_endpoint_id_idx on public.webhook_deliveries (endpoint_id, created_at desc);
create index webhook_deliveries_job_id_idx on public.webhook_deliveries (job_id, endpoint_id, created_at);
create index webhook_deliveries_project_id_idx on public.webhook_deliveries (project_id, created_at desc);
create index webhook_deliveries_old_idx on public.webhook_deliveries (created_at) where status <> 'pending';

revoke all on public.webhook_endpoints, public.webhook_secrets, public.webhook_deliveries
  from anon, authenticated, service_role;
grant select on public.webhook_endpoints, public.webhook_deliveries to authenticated;
grant select (id, endpoint_id, project_id, last_four, created_at, expires_at) on public.webhook_secrets to authenticated;
grant select, insert, update, delete on public.webhook_endpoints, public.webhook_secrets, public.webhook_deliveries
  to service_role;

alter table public.webhook_endpoints enable row level security;
alter table public.webhook_secrets enable row level security;
alter table public.webhook_deliveries enable row level security;
create policy "members see webhook endpoints" on public.webhook_endpoints for select to authenticated
  using (project_id in (select private.my_projects()));
create policy "members see which secrets sign" on public.webhook_secrets for select to authenticated
  using (project_id in (select private.my_projects()));
create policy "members see webhook deliveries" on public.webhook_deliveries for select to authenticated
  using (project_id in (select private.my_projects()));

-- What waits for an endpoint that is disabled is given up; it can be sent again when the endpoint is back.
create function private.give_up_deliveries() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  update public.webhook_deliveries set status = 'dead', last_error = 'The endpoint was disabled.'
    where endpoint_id = new.id and status = 'pending' and lease_token is null;
  return null;
end $$;
create trigger give_up_deliveries after update of enabled on public.webhook_endpoints
  for each row when (old.enabled and not new.enabled) execute function private.give_up_deliveries();
