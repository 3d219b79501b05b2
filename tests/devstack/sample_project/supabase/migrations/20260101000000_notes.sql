-- A project small enough to see every grant: users read and add notes of their own, and cannot change them.

create table public.notes (
  id bigint generated always as identity primary key,
  owner_id uuid not null default auth.uid() references auth.users (id) on delete cascade,
  body text not null,
  cost numeric(12, 8) not null default 0.01,
  created_at timestamptz not null default now()
);
revoke all on public.notes from anon, authenticated, service_role;
grant select, insert on public.notes to authenticated;
grant select on public.notes to service_role;
alter table public.notes enable row level security;
create policy "owners read their notes" on public.notes for select to authenticated
  using (owner_id = (select auth.uid()));
create policy "owners write their notes" on public.notes for all to authenticated
  using (owner_id = (select auth.uid())) with check (owner_id = (select auth.uid()));

-- Granted to nobody and without RLS: closed because hosted projects grant nothing by themselves.
create table public.closed (id integer primary key);
insert into public.closed values (1);

create function public.whoami() returns jsonb language sql stable as $$
  select jsonb_build_object('uid', auth.uid(), 'role', auth.role(), 'database_role', current_user)
$$;
