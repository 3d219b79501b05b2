-- Closed by default: nothing in `public` is reachable until a migration grants it.

create schema if not exists private;
comment on schema private is 'Helpers of policies and triggers. Not exposed by the Data API.';
revoke all on schema private from public;
grant usage on schema private to authenticated, service_role;

alter default privileges in schema public revoke all on tables from anon, authenticated;
alter default privileges in schema public revoke all on sequences from anon, authenticated;
-- Without a schema: the right of everybody to execute is a global default, which no schema can take back.
alter default privileges revoke execute on functions from public;
alter default privileges in schema public revoke execute on functions from anon, authenticated;

create function private.touch_updated_at() returns trigger
language plpgsql set search_path = '' as $$
begin
  new.updated_at := now();
  return new;
end $$;
comment on function private.touch_updated_at() is 'Keeps updated_at at the time of the last change.';
