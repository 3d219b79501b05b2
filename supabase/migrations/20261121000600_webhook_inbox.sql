-- What providers told us, once: a webhook that comes again is known here and has no effect.

create table private.webhook_inbox (
  provider text not null,
  user_id uuid not null,
  webhook_id text not null check (length(webhook_id) <= 200),
  received_at timestamptz not null default now(),
  primary key (provider, user_id, webhook_id)
);
comment on table private.webhook_inbox is 'The user is part of the key: who signs his own webhooks cannot use up the ids of others.';
create index webhook_inbox_received_at_idx on private.webhook_inbox (received_at);
grant select, insert, delete on private.webhook_inbox to service_role;

create function public.receive_provider_webhook(
  p_provider text, p_user_id uuid, p_webhook_id text, p_provider_job_id text
) returns uuid language plpgsql set search_path = '' as $$
declare
  known_job uuid;
begin
  insert into private.webhook_inbox (provider, user_id, webhook_id) values (p_provider, p_user_id, p_webhook_id)
    on conflict do nothing;
  if not found then
    return null;
  end if;
  select j.id into known_job from public.training_jobs j
    where j.provider = p_provider and j.provider_job_id = p_provider_job_id and j.user_id = p_user_id
      and j.status not in ('completed', 'failed', 'cancelled');
  update private.training_job_control set next_poll_at = now() where job_id = known_job;
  return known_job;
end $$;
comment on function public.receive_provider_webhook(text, uuid, text, text) is
  'The job to look at now; null: it came before, or no job that still runs is meant.';

-- A provider signs for five minutes; a webhook is resent for days. A log is read for a month.
create function public.forget_old_webhooks() returns integer
language plpgsql set search_path = '' as $$
declare
  forgotten integer;
begin
  delete from private.webhook_inbox i using (
    select o.provider, o.user_id, o.webhook_id from private.webhook_inbox o
    where o.received_at < now() - interval '7 days' order by o.received_at limit 1000
  ) old where (i.provider, i.user_id, i.webhook_id) = (old.provider, old.user_id, old.webhook_id);
  delete from public.webhook_deliveries where id in (
    select d.id from public.webhook_deliveries d
    where d.status <> 'pending' and d.created_at < now() - interval '30 days' order by d.created_at limit 1000);
  get diagnostics forgotten = row_count;
  return forgotten;
end $$;

revoke execute on function public.receive_provider_webhook(text, uuid, text, text), public.forget_old_webhooks()
  from public, anon, authenticated;
grant execute on function public.receive_provider_webhook(text, uuid, text, text), public.forget_old_webhooks()
  to service_role;
