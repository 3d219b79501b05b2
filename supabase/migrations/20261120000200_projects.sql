-- Projects and who may do what in them: owner > editor > viewer.

create table public.projects (
  id uuid primary key default gen_random_uuid(),
  owner_id uuid not null default auth.uid() references auth.users (id) on delete cascade,
  name text not null check (length(trim(name)) between 1 and 120),
  monthly_budget_usd numeric(12, 2) check (monthly_budget_usd >= 0),
  budget_enforcement text not null default 'warn' check (budget_enforcement in ('off', 'warn', 'block')),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
comment on column public.projects.monthly_budget_usd is 'null: no budget is set.';
create index projects_owner_id_idx on public.projects (owner_id);
create trigger touch_updated_at before update on public.projects
  for each row execute function private.touch_updated_at();

create table public.project_members (
  project_id uuid not null references public.projects (id) on delete cascade,
  user_id uuid not null references auth.users (id) on delete cascade,
  role text not null check (role in ('owner', 'editor', 'viewer')),
  created_at timestamptz not null default now(),
  primary key (project_id, user_id)
);
create index project_members_user_id_idx on public.project_members (user_id);

revoke all on public.projects, public.project_members from anon, authenticated, service_role;
grant select, delete on public.projects to authenticated;
grant insert (name, monthly_budget_usd, budget_enforcement) on public.projects to authenticated;
grant update (name, monthly_budget_usd, budget_enforcement) on public.projects to authenticated;
grant select, delete on public.project_members to authenticated;
grant insert (project_id, user_id, role) on public.project_members to authenticated;
grant update (role) on public.project_members to authenticated;
grant select, insert, update, delete on public.projects, public.project_members to service_role;

-- The one place that knows membership. A set, so that a policy asks once a statement and not once a row.
create function private.my_projects(least_role text default 'viewer') returns setof uuid
language sql stable security definer set search_path = '' as $$
  select m.project_id from public.project_members m
  where m.user_id = (select auth.uid())
    and case least_role
      when 'viewer' then true
      when 'editor' then m.role in ('owner', 'editor')
      when 'owner' then m.role = 'owner'
      else false
    end
$$;
grant execute on function private.my_projects(text) to authenticated;

create function private.add_owner_as_member() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  insert into public.project_members (project_id, user_id, role) values (new.id, new.owner_id, 'owner');
  return new;
end $$;
create trigger add_owner_as_member after insert on public.projects
  for each row execute function private.add_owner_as_member();

alter table public.projects enable row level security;
alter table public.project_members enable row level security;

-- The owner is named beside membership: `insert ... returning` is checked before the trigger has run.
create policy "members see their projects" on public.projects for select to authenticated
  using (owner_id = (select auth.uid()) or id in (select private.my_projects()));
create policy "users create projects of their own" on public.projects for insert to authenticated
  with check (owner_id = (select auth.uid()));
create policy "owners change their projects" on public.projects for update to authenticated
  using (id in (select private.my_projects('owner'))) with check (id in (select private.my_projects('owner')));
create policy "owners delete their projects" on public.projects for delete to authenticated
  using (id in (select private.my_projects('owner')));

-- A project keeps its first owner: that row is made by the trigger and stays.
create policy "members see each other" on public.project_members for select to authenticated
  using (project_id in (select private.my_projects()));
create policy "owners invite editors and viewers" on public.project_members for insert to authenticated
  with check (project_id in (select private.my_projects('owner')) and role <> 'owner');
create policy "owners change the role of others" on public.project_members for update to authenticated
  using (project_id in (select private.my_projects('owner')) and role <> 'owner')
  with check (project_id in (select private.my_projects('owner')) and role <> 'owner');
create policy "owners remove others and anyone leaves" on public.project_members for delete to authenticated
  using (role <> 'owner' and (user_id = (select auth.uid()) or project_id in (select private.my_projects('owner'))));

-- What a function asks with the caller's own token before it acts for them.
create function public.my_project_role(p_project_id uuid) returns text
language sql stable set search_path = '' as $$
  select m.role from public.project_members m
  where m.project_id = p_project_id and m.user_id = (select auth.uid())
$$;
comment on function public.my_project_role(uuid) is 'owner, editor or viewer; null: not a member, or no such project.';
revoke execute on function public.my_project_role(uuid) from public, anon;
grant execute on function public.my_project_role(uuid) to authenticated;
