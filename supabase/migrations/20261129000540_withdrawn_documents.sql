-- What follows when a document is withdrawn or deleted: no pair is made from it any more, its pairs are not used any
-- more, and its chunks are nobody's originals. Deleting cannot be taken back, withdrawing can.

alter table public.documents
  drop constraint documents_status_check,
  add constraint documents_status_check
    check (status in ('uploaded', 'processing', 'ready', 'failed', 'withdrawn'));

create table public.document_withdrawals (
  id uuid primary key default gen_random_uuid(),
  project_id uuid not null references public.projects (id) on delete cascade,
  document_id uuid not null,
  document_name text not null,
  reason text check (length(reason) <= 2000),
  is_deletion boolean not null default false,
  withdrawn_by uuid references auth.users (id) on delete set null,
  withdrawn_at timestamptz not null default now(),
  restored_by uuid references auth.users (id) on delete set null,
  restored_at timestamptz
);
comment on table public.document_withdrawals is 'Who took which document back, when and why. It outlives the document.';
comment on column public.document_withdrawals.is_deletion is 'Whether the document itself is gone, for good.';
comment on column public.document_withdrawals.withdrawn_by is 'null: the service, or an account that is deleted.';
comment on column public.document_withdrawals.restored_at is 'null: it is withdrawn still, or deleted.';
create index document_withdrawals_document_id_idx on public.document_withdrawals (document_id, withdrawn_at desc);
create index document_withdrawals_project_id_idx on public.document_withdrawals (project_id);
create index document_withdrawals_withdrawn_by_idx on public.document_withdrawals (withdrawn_by);
create index document_withdrawals_restored_by_idx on public.document_withdrawals (restored_by);

revoke all on public.document_withdrawals from anon, authenticated, service_role;
grant select on public.document_withdrawals to authenticated;
grant select on public.document_withdrawals to service_role;

alter table public.document_withdrawals enable row level security;
create policy "members see what was withdrawn" on public.document_withdrawals for select to authenticated
  using (project_id in (select private.my_projects()));

-- A pair of a document that is withdrawn or gone is not valid, whoever writes it; 'source_withdrawn' among its
-- issues says that this alone is why. The issue goes when the document is back.
create function private.withhold_withdrawn() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  was_withheld boolean := tg_op = 'UPDATE' and 'source_withdrawn' = any (old.issues);
begin
  if exists (select from public.documents d where d.id = new.document_id and d.status <> 'withdrawn') then
    if 'source_withdrawn' = any (new.issues) then
      new.issues := array_remove(new.issues, 'source_withdrawn');
      new.is_valid := new.issues = '{}';
    end if;
  elsif new.is_valid or was_withheld then
    new.is_valid := false;
    new.issues := array_append(array_remove(new.issues, 'source_withdrawn'), 'source_withdrawn');
  end if;
  return new;
end $$;
-- After name_document: triggers fire in the order of their names.
create trigger withhold_withdrawn before insert on public.training_pairs
  for each row when (new.document_id is not null) execute function private.withhold_withdrawn();
create trigger withhold_changed before update of is_valid, issues on public.training_pairs
  for each row when (new.document_id is not null and
    (new.is_valid or 'source_withdrawn' = any (new.issues) or 'source_withdrawn' = any (old.issues)))
  execute function private.withhold_withdrawn();

-- Nothing more is made from these chunks; who works on one may not store what they make.
create function private.stop_generating_from(p_document_id uuid) returns void
language sql volatile set search_path = '' as $$
  with stopped as (
    update public.dataset_chunks w
      set status = 'failed', lease_token = null, lease_expires_at = null, updated_at = now(),
        error = jsonb_build_object('code', 'source_withdrawn', 'message', 'The document was withdrawn.')
      from public.chunks k
      where k.document_id = p_document_id and w.chunk_id = k.id and w.status in ('pending', 'working')
      returning w.dataset_id
  )
  update public.training_datasets d set chunks_failed = d.chunks_failed + s.chunks
    from (select dataset_id, count(*)::integer as chunks from stopped group by 1) s where d.id = s.dataset_id
$$;

-- Work that is planned in the moment of the withdrawal: one of the two sees the other.
create function private.skip_withdrawn_chunks() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  document uuid;
begin
  for document in
    select d.id from public.documents d
    where d.id in (select k.document_id from planned p join public.chunks k on k.id = p.chunk_id)
    order by d.id for share
  loop
    if exists (select from public.documents d where d.id = document and d.status = 'withdrawn') then
      perform private.stop_generating_from(document);
    end if;
  end loop;
  return null;
end $$;
create trigger skip_withdrawn_chunks after insert on public.dataset_chunks
  referencing new table as planned for each statement execute function private.skip_withdrawn_chunks();

-- The valid pairs of a document that is withdrawn or gone; what their datasets say of themselves is counted anew.
create function private.withhold_pairs_of(p_document_id uuid) returns void
language plpgsql set search_path = '' as $$
declare
  dataset uuid;
begin
  for dataset in
    with withheld as (
      update public.training_pairs set is_valid = false, issues = array_append(issues, 'source_withdrawn')
        where document_id = p_document_id and is_valid returning dataset_id
    )
    select distinct dataset_id from withheld order by dataset_id
  loop
    perform private.count_pairs(dataset);
  end loop;
end $$;

-- Before its chunks go, and the work with them; not when the whole project goes.
create function private.stop_generating_from_deleted() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  if exists (select from public.projects p where p.id = old.project_id) then
    perform private.stop_generating_from(old.id);
  end if;
  return old;
end $$;
create trigger stop_generating before delete on public.documents
  for each row execute function private.stop_generating_from_deleted();

create function private.withhold_pairs_of_deleted() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  if exists (select from public.projects p where p.id = old.project_id) then
    perform private.withhold_pairs_of(old.id);
    update public.document_withdrawals set is_deletion = true
      where document_id = old.id and restored_at is null;
    if not found then
      insert into public.document_withdrawals (project_id, document_id, document_name, is_deletion, withdrawn_by)
        values (old.project_id, old.id, old.name, true, auth.uid());
    end if;
  end if;
  return null;
end $$;
create trigger withhold_pairs after delete on public.documents
  for each row execute function private.withhold_pairs_of_deleted();
