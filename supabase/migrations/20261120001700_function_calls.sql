-- Row and clock events call functions. On hosted Supabase pg_net posts and pg_cron keeps the time, with
-- the address and the secret from Vault; where they are missing, the same entry points NOTIFY.

do $$
begin
  if exists (select from pg_available_extensions where name = 'pg_net') then
    create extension if not exists pg_net;
  end if;
  if exists (select from pg_available_extensions where name = 'pg_cron') then
    create extension if not exists pg_cron;
  end if;
end $$;

create function private.call_function(name text, body jsonb) returns void
language plpgsql security definer set search_path = '' as $$
declare
  address text;
  secret text;
begin
  if not exists (select from pg_catalog.pg_extension where extname = 'pg_net') then
    perform pg_notify('function_calls', jsonb_build_object('name', name, 'body', body)::text);
    return;
  end if;
  if to_regclass('vault.decrypted_secrets') is not null then
    execute $q$
      select max(decrypted_secret) filter (where v.name = 'fineflow_functions_url'),
             max(decrypted_secret) filter (where v.name = 'fineflow_function_secret')
      from vault.decrypted_secrets v $q$ into address, secret;
  end if;
  if address is null or secret is null then
    raise warning 'call of % is left out: set fineflow_functions_url and fineflow_function_secret in Vault', name;
    return;
  end if;
  execute 'select net.http_post(url := $1, body := $2, headers := $3, timeout_milliseconds := 60000)'
    using address || '/' || name, body,
      jsonb_build_object('content-type', 'application/json', 'x-fineflow-secret', secret);
end $$;
comment on function private.call_function(text, jsonb) is
  'A hint, delivered at most once and after the commit. The schedule makes up for the lost ones.';

-- `create trigger ... execute function private.call_with_id('<function>', '<name of the id>')`
create function private.call_with_id() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  perform private.call_function(tg_argv[0], jsonb_build_object(tg_argv[1], new.id));
  return null;
end $$;

create trigger call_process_document after insert on public.documents
  for each row when (new.status = 'uploaded')
  execute function private.call_with_id('process-document', 'documentId');
create trigger call_generate_dataset after insert on public.training_datasets
  for each row when (new.status = 'generating')
  execute function private.call_with_id('generate-dataset', 'datasetId');
create trigger call_start_training after insert on public.training_jobs
  for each row execute function private.call_with_id('start-training', 'jobId');

-- Asks again for work that nobody holds: a lost hint, or a function that died.
create function public.call_for_unfinished_work() returns integer
language plpgsql set search_path = '' as $$
declare
  called integer := 0;
  item uuid;
begin
  for item in
    select d.id from public.documents d
    where (d.status = 'uploaded' and d.updated_at < now() - interval '10 seconds')
       or (d.status = 'processing' and d.lease_expires_at < now())
    order by d.updated_at limit 50
  loop
    perform private.call_function('process-document', jsonb_build_object('documentId', item));
    called := called + 1;
  end loop;
  for item in
    select d.id from public.training_datasets d
    where d.status = 'generating' and d.updated_at < now() - interval '10 seconds'
      and not exists (select from public.dataset_chunks w
        where w.dataset_id = d.id and w.status = 'working' and w.lease_expires_at > now())
    order by d.updated_at limit 50
  loop
    perform private.call_function('generate-dataset', jsonb_build_object('datasetId', item));
    called := called + 1;
  end loop;
  return called;
end $$;
revoke execute on function public.call_for_unfinished_work() from public, anon, authenticated;
grant execute on function public.call_for_unfinished_work(), private.call_function(text, jsonb) to service_role;

-- The clock. A laptop looks more often than a server that pays for each look.
create table private.schedules (
  name text primary key,
  function_name text not null,
  every_seconds integer not null check (every_seconds between 1 and 59),
  every_seconds_local integer not null check (every_seconds_local between 1 and 59)
);
insert into private.schedules (name, function_name, every_seconds, every_seconds_local)
  values ('poll-training', 'poll-training', 30, 3);

create function private.run_schedule(schedule_name text) returns void
language plpgsql security definer set search_path = '' as $$
declare
  due private.schedules;
begin
  select * into due from private.schedules s where s.name = schedule_name;
  if found then
    perform private.call_function(due.function_name, '{}');
  end if;
end $$;

do $$
declare
  s record;
begin
  if exists (select from pg_extension where extname = 'pg_cron') then
    for s in select * from private.schedules loop
      perform cron.schedule(s.name, s.every_seconds || ' seconds',
        format('select private.run_schedule(%L)', s.name));
    end loop;
  end if;
end $$;
