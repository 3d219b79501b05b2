-- Prompts of a project that take the place of the built-in ones. Whether a text can be used as one is told when
-- pairs are asked for: shared/generation/prompt_set.py knows what each must hold.

create table public.project_prompts (
  project_id uuid not null references public.projects (id) on delete cascade,
  name text not null check (name in ('rules', 'source', 'auto', 'qa', 'instruction', 'conversation', 'variety',
    'reasoning', 'judge', 'judge_source')),
  content text not null check (length(content) between 1 and 8000),
  updated_by uuid references auth.users (id) on delete set null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (project_id, name)
);
comment on table public.project_prompts is 'A prompt that has no row here is the built-in one.';
comment on column public.project_prompts.updated_by is 'Who wrote it; null: the service, or a user who is gone.';
create index project_prompts_updated_by_idx on public.project_prompts (updated_by);
create trigger touch_updated_at before update on public.project_prompts
  for each row execute function private.touch_updated_at();

create function private.note_prompt_author() returns trigger
language plpgsql set search_path = '' as $$
begin
  new.updated_by := auth.uid();
  return new;
end $$;
create trigger note_author before insert or update of content on public.project_prompts
  for each row execute function private.note_prompt_author();

revoke all on public.project_prompts from anon, authenticated, service_role;
grant select, delete on public.project_prompts to authenticated;
grant insert (project_id, name, content) on public.project_prompts to authenticated;
grant update (content) on public.project_prompts to authenticated;
grant select, insert, update, delete on public.project_prompts to service_role;

alter table public.project_prompts enable row level security;
create policy "members see prompts" on public.project_prompts for select to authenticated
  using (project_id in (select private.my_projects()));
create policy "editors add prompts" on public.project_prompts for insert to authenticated
  with check (project_id in (select private.my_projects('editor')));
create policy "editors change prompts" on public.project_prompts for update to authenticated
  using (project_id in (select private.my_projects('editor')))
  with check (project_id in (select private.my_projects('editor')));
create policy "editors reset prompts" on public.project_prompts for delete to authenticated
  using (project_id in (select private.my_projects('editor')));
