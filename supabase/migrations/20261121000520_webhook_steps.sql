-- The atomic steps of webhooks. Functions call these as service_role; each is one transaction.

create function public.create_webhook_endpoint(p_endpoint jsonb, p_secret jsonb, p_most integer) returns jsonb
language plpgsql set search_path = '' as $$
declare
  endpoint public.webhook_endpoints;
begin
  perform from public.projects where id = (p_endpoint ->> 'project_id')::uuid for no key update;
  if (select count(*) from public.webhook_endpoints e
      where e.project_id = (p_endpoint ->> 'project_id')::uuid) >= p_most then
    return null;
  end if;
  insert into public.webhook_endpoints (id, project_id, created_by, url, description, events)
    values ((p_endpoint ->> 'id')::uuid, (p_endpoint ->> 'project_id')::uuid, (p_endpoint ->> 'created_by')::uuid,
      p_endpoint ->> 'url', p_endpoint ->> 'description',
      array(select jsonb_array_elements_text(p_endpoint -> 'events')))
    returning * into endpoint;
  insert into public.webhook_secrets (endpoint_id, project_id, ciphertext, key_id, last_four)
    values (endpoint.id, endpoint.project_id, p_secret ->> 'ciphertext', p_secret ->> 'key_id',
      p_secret ->> 'last_four');
  return to_jsonb(endpoint);
end $$;
comment on function public.create_webhook_endpoint(jsonb, jsonb, integer) is 'The endpoint; null: the project has p_most already.';

create function public.rotate_webhook_secret(p_endpoint_id uuid, p_secret jsonb, p_overlap_seconds integer) returns boolean
language plpgsql set search_path = '' as $$
declare
  project uuid;
begin
  select e.project_id into project from public.webhook_endpoints e where e.id = p_endpoint_id for no key update;
  if not found then
    return false;
  end if;
  delete from public.webhook_secrets where endpoint_id = p_endpoint_id and expires_at <= now();
  update public.webhook_secrets set expires_at = now() + make_interval(secs => p_overlap_seconds)
    where endpoint_id = p_endpoint_id and expires_at is null;
  insert into public.webhook_secrets (endpoint_id, project_id, ciphertext, key_id, last_four)
    values (p_endpoint_id, project, p_secret ->> 'ciphertext', p_secret ->> 'key_id', p_secret ->> 'last_four');
  return true;
end $$;

-- What a sender needs to know of a delivery that it holds.
create function private.held_delivery(p_delivery public.webhook_deliveries) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object(
    'id', p_delivery.id, 'lease_token', p_delivery.lease_token, 'attempts', p_delivery.attempts,
    'endpoint_id', e.id, 'url', e.url, 'event_id', p_delivery.event_id, 'type', p_delivery.type,
    'payload', p_delivery.payload,
    'secrets', (select coalesce(jsonb_agg(jsonb_build_object('ciphertext', s.ciphertext, 'key_id', s.key_id)
        order by s.expires_at nulls first), '[]')
      from public.webhook_secrets s where s.endpoint_id = e.id and (s.expires_at is null or s.expires_at > now())))
  from public.webhook_endpoints e where e.id = p_delivery.endpoint_id
$$;

-- Up to p_limit due deliveries, the longest waiting first. An endpoint that keeps its callers waiting
-- holds p_per_endpoint of them and no more.
create function public.claim_webhook_deliveries(p_limit integer, p_per_endpoint integer, p_lease_seconds integer)
returns jsonb language plpgsql set search_path = '' as $$
declare
  claimed uuid[];
begin
  with picked as (
    select due.id from public.webhook_endpoints e
    cross join lateral (
      select d.id, d.next_attempt_at from public.webhook_deliveries d
      where d.endpoint_id = e.id and d.status = 'pending' and d.next_attempt_at <= now()
        and (d.lease_token is null or d.lease_expires_at < now())
      order by d.next_attempt_at
      limit greatest(0, p_per_endpoint - (select count(*) from public.webhook_deliveries h
        where h.endpoint_id = e.id and h.lease_token is not null and h.lease_expires_at >= now()))
      for update skip locked
    ) due
    where e.enabled
    order by due.next_attempt_at limit p_limit
  ), held as (
    update public.webhook_deliveries d
      set attempts = d.attempts + 1, last_attempt_at = now(), lease_token = gen_random_uuid(),
          lease_expires_at = now() + make_interval(secs => p_lease_seconds)
      from picked where d.id = picked.id returning d.id
  )
  select array_agg(held.id) into claimed from held;
  return (select coalesce(jsonb_agg(private.held_delivery(d) order by d.next_attempt_at), '[]')
    from public.webhook_deliveries d where d.id = any (claimed));
end $$;

-- A ping, held from the start: it is sent once, by whoever asked for it.
create function public.begin_webhook_test(p_endpoint_id uuid, p_lease_seconds integer) returns jsonb
language plpgsql set search_path = '' as $$
declare
  delivery public.webhook_deliveries;
begin
  insert into public.webhook_deliveries (endpoint_id, project_id, event_id, type, attempts, last_attempt_at,
      lease_token, lease_expires_at, payload)
    select e.id, e.project_id, gen_random_uuid(), 'ping', 1, now(), gen_random_uuid(),
      now() + make_interval(secs => p_lease_seconds),
      jsonb_build_object('type', 'ping', 'timestamp', private.event_time(),
        'data', jsonb_build_object('endpointId', e.id, 'projectId', e.project_id))
    from public.webhook_endpoints e where e.id = p_endpoint_id
    returning * into delivery;
  return private.held_delivery(delivery);
end $$;

-- A newer progress that waits beside this one takes over its turn. true: there is one.
create function private.hand_on_progress(p_delivery public.webhook_deliveries, p_retry_seconds double precision)
returns boolean language plpgsql set search_path = '' as $$
begin
  update public.webhook_deliveries d set
      attempts = greatest(d.attempts, p_delivery.attempts),
      next_attempt_at = greatest(d.next_attempt_at, now() + make_interval(secs => p_retry_seconds))
    where d.job_id = p_delivery.job_id and d.endpoint_id = p_delivery.endpoint_id and d.id <> p_delivery.id
      and d.type = 'finetune_job_progress' and p_delivery.type = d.type
      and d.status = 'pending' and d.lease_token is null;
  return found;
end $$;

-- p_retry_seconds null: no further attempt. false: the lease is lost, or the event was made old meanwhile.
create function public.finish_webhook_delivery(
  p_id uuid, p_lease_token uuid, p_is_delivered boolean, p_status_code integer, p_error text,
  p_retry_seconds double precision
) returns boolean language plpgsql set search_path = '' as $$
declare
  delivery public.webhook_deliveries;
  endpoint public.webhook_endpoints;
  reason text;
begin
  select * into delivery from public.webhook_deliveries
    where id = p_id and lease_token = p_lease_token and status = 'pending' for update;
  if not found then
    return false;
  end if;
  update public.webhook_endpoints e set failing_since = case when p_is_delivered then null else now() end
    where e.id = delivery.endpoint_id and p_is_delivered = (e.failing_since is not null);
  select * into endpoint from public.webhook_endpoints where id = delivery.endpoint_id;
  if p_is_delivered then
    delivery.status := 'delivered';
  elsif p_retry_seconds is null or not endpoint.enabled then
    delivery.status := 'dead';
  elsif private.hand_on_progress(delivery, p_retry_seconds) then
    delivery.status := 'skipped';
  end if;
  update public.webhook_deliveries set
      status = delivery.status, next_attempt_at = now() + make_interval(secs => coalesce(p_retry_seconds, 0)),
      last_status_code = p_status_code, last_error = left(p_error, 500),
      delivered_at = case when p_is_delivered then now() end, lease_token = null, lease_expires_at = null
    where id = p_id;
  if p_status_code = 410 then
    reason := 'The endpoint answered 410 Gone.';
  elsif delivery.status = 'dead' and delivery.type <> 'ping' and endpoint.failing_since < now() - interval '3 days' then
    reason := to_char(endpoint.failing_since at time zone 'utc', '"Nothing could be delivered since "YYYY-MM-DD HH24:MI" UTC."');
  end if;
  if reason is not null then
    update public.webhook_endpoints set enabled = false, disabled_reason = reason where id = endpoint.id and enabled;
  end if;
  return true;
end $$;

create function public.redeliver_webhook(p_delivery_id uuid) returns text
language plpgsql set search_path = '' as $$
declare
  endpoint public.webhook_endpoints;
begin
  select e.* into endpoint from public.webhook_endpoints e
    join public.webhook_deliveries d on d.endpoint_id = e.id where d.id = p_delivery_id;
  if not endpoint.enabled then
    return 'endpoint_disabled';
  end if;
  update public.webhook_deliveries set status = 'pending', attempts = 0, next_attempt_at = now()
    where id = p_delivery_id and status = 'dead';
  if not found then
    return 'not_dead';
  end if;
  perform private.call_function('deliver-webhooks', '{}');
  return 'queued';
end $$;

revoke execute on function public.create_webhook_endpoint(jsonb, jsonb, integer),
  public.rotate_webhook_secret(uuid, jsonb, integer), public.claim_webhook_deliveries(integer, integer, integer),
  public.begin_webhook_test(uuid, integer), public.redeliver_webhook(uuid),
  public.finish_webhook_delivery(uuid, uuid, boolean, integer, text, double precision)
  from public, anon, authenticated;
grant execute on function public.create_webhook_endpoint(jsonb, jsonb, integer),
  public.rotate_webhook_secret(uuid, jsonb, integer), public.claim_webhook_deliveries(integer, integer, integer),
  public.begin_webhook_test(uuid, integer), public.redeliver_webhook(uuid),
  public.finish_webhook_delivery(uuid, uuid, boolean, integer, text, double precision),
  private.event_time(), private.held_delivery(public.webhook_deliveries),
  private.hand_on_progress(public.webhook_deliveries, double precision)
  to service_role;

-- New events call at once; the clock makes up for lost calls, and brings what was put off.
insert into private.schedules (name, function_name, every_seconds, every_seconds_local)
  values ('deliver-webhooks', 'deliver-webhooks', 30, 3);
do $$
begin
  if exists (select from pg_extension where extname = 'pg_cron') then
    perform cron.schedule('deliver-webhooks', '30 seconds', 'select private.run_schedule(''deliver-webhooks'')');
  end if;
end $$;
