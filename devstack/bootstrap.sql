-- What a hosted project has before its first migration. Idempotent; runs as superuser at every start,
-- before Lite makes the tables of `auth` and `storage`.

do $$
begin
  if not exists (select from pg_roles where rolname = 'anon') then
    create role anon nologin noinherit;
  end if;
  if not exists (select from pg_roles where rolname = 'authenticated') then
    create role authenticated nologin noinherit;
  end if;
  if not exists (select from pg_roles where rolname = 'service_role') then
    create role service_role nologin noinherit bypassrls;
  end if;
  if not exists (select from pg_publication where pubname = 'supabase_realtime') then
    create publication supabase_realtime;
  end if;
end $$;

create schema if not exists auth;
create schema if not exists extensions;
create schema if not exists storage;

grant usage on schema public, auth, extensions, storage to anon, authenticated, service_role;
-- New tables in public are granted to nobody here: since October 2026 hosted projects leave that to each
-- migration, for service_role too.
-- The rows of storage are guarded by RLS alone, as on hosted.
alter default privileges in schema storage
  grant all on tables to anon, authenticated, service_role;

alter database postgres set search_path = "$user", public, extensions;
alter role postgres set client_min_messages = warning;

-- A changed schema is seen at once by the Data API.
create or replace function extensions.pgrst_ddl_watch() returns event_trigger language plpgsql as $$
begin
  notify pgrst, 'reload schema';
end $$;
drop event trigger if exists pgrst_ddl_watch;
create event trigger pgrst_ddl_watch on ddl_command_end execute function extensions.pgrst_ddl_watch();
drop event trigger if exists pgrst_drop_watch;
create event trigger pgrst_drop_watch on sql_drop execute function extensions.pgrst_ddl_watch();
