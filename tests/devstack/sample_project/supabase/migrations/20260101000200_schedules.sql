create schema private;
create table private.schedules (name text primary key, every_seconds integer, every_seconds_local integer);
insert into private.schedules values ('tick', 30, 1);
create table private.ticks (at timestamptz not null default now());
create function private.run_schedule(schedule_name text) returns void language plpgsql as $$
begin
  insert into private.ticks default values;
  perform pg_notify('function_calls', jsonb_build_object('name', schedule_name, 'body', '{}'::jsonb)::text);
end $$;
