-- Editors withdraw a document and bring it back. Both answer with what it reached; both may be repeated.

-- The document, locked. Refuses strangers and viewers.
create function private.document_to_change(p_document_id uuid) returns public.documents
language plpgsql security definer set search_path = '' as $$
declare
  document public.documents;
begin
  select * into document from public.documents d
    where d.id = p_document_id and d.project_id in (select private.my_projects()) for update;
  if not found then
    perform private.refuse(404, 'document_not_found',
      format('There is no document %s that you may see.', p_document_id));
  elsif document.project_id not in (select private.my_projects('editor')) then
    perform private.refuse(403, 'forbidden', 'This needs the role editor in the project.');
  end if;
  return document;
end $$;

create function private.withdraw_document(p_document_id uuid, p_reason text) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  document public.documents := private.document_to_change(p_document_id);
begin
  if length(p_reason) > 2000 then
    perform private.refuse(422, 'reason_too_long', 'A reason has at most 2000 characters.');
  end if;
  if document.status <> 'withdrawn' then
    -- First: whoever reads the status from now on leaves the document out.
    update public.documents set status = 'withdrawn', error = null, lease_token = null, lease_expires_at = null
      where id = p_document_id;
    insert into public.document_withdrawals (project_id, document_id, document_name, reason, withdrawn_by)
      values (document.project_id, document.id, document.name, nullif(trim(p_reason), ''), auth.uid());
    perform private.lock_chunks(document.project_id);
    perform private.stop_generating_from(p_document_id);
    perform private.withhold_pairs_of(p_document_id);
    update private.chunk_sketches s set is_original = false
      from public.chunks k where k.document_id = p_document_id and s.chunk_id = k.id;
    update public.chunks k set duplicate_of = null
      from public.chunks o where o.document_id = p_document_id and k.duplicate_of = o.id
        and k.document_id <> p_document_id;
    perform private.place_orphans(document.project_id);
  end if;
  return public.document_reach(p_document_id);
end $$;

create function private.restore_document(p_document_id uuid) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  document public.documents := private.document_to_change(p_document_id);
  dataset uuid;
begin
  if document.status = 'withdrawn' then
    -- One that was not cut into chunks yet waits for it again.
    update public.documents set status = case when chunk_count > 0 then 'ready' else 'uploaded' end, attempts = 0
      where id = p_document_id;
    update public.document_withdrawals set restored_at = now(), restored_by = auth.uid()
      where document_id = p_document_id and restored_at is null;
    perform private.lock_chunks(document.project_id);
    for dataset in
      with restored as (
        update public.training_pairs set
            issues = array_remove(issues, 'source_withdrawn'),
            is_valid = array_remove(issues, 'source_withdrawn') = '{}'
          where document_id = p_document_id and 'source_withdrawn' = any (issues) returning dataset_id
      )
      select distinct dataset_id from restored order by dataset_id
    loop
      perform private.count_pairs(dataset);
    end loop;
    perform private.place_chunks(array(select k.id from public.chunks k where k.document_id = p_document_id));
  end if;
  return public.document_reach(p_document_id);
end $$;

create function public.withdraw_document(p_document_id uuid, p_reason text default null) returns jsonb
language sql set search_path = '' as $$
  select private.withdraw_document(p_document_id, p_reason)
$$;
comment on function public.withdraw_document(uuid, text) is
  'For editors: no pair is made from the document any more and none of its pairs is used; what was trained is in the answer.';

create function public.restore_document(p_document_id uuid) returns jsonb
language sql set search_path = '' as $$
  select private.restore_document(p_document_id)
$$;
comment on function public.restore_document(uuid) is
  'For editors: a withdrawn document and its pairs are used again, as they were reviewed.';

revoke execute on function public.withdraw_document(uuid, text), public.restore_document(uuid) from public, anon;
grant execute on function public.withdraw_document(uuid, text), public.restore_document(uuid),
  private.withdraw_document(uuid, text), private.restore_document(uuid) to authenticated;
