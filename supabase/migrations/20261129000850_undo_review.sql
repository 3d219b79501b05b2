-- Taking a step back: of one call, or the last one of a pair.

-- What comes after a step is in its way: only the last step of a pair is taken back, so that undoing all leads to
-- the pair as it was made. A step that was taken back stays in the history, with the one that took it back.
create function private.undo_review(p_batch_id uuid, p_pair_id uuid) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  dataset public.training_datasets;
  batch uuid := gen_random_uuid();
  steps integer;
  undone integer;
begin
  if (p_batch_id is null) = (p_pair_id is null) then
    perform private.refuse(422, 'invalid_request', 'Say what to take back: a batch, or the last step of a pair.');
  end if;
  dataset := private.dataset_of_pair(coalesce(p_pair_id,
    (select r.pair_id from public.pair_revisions r where r.batch_id = p_batch_id limit 1)));
  insert into public.pair_revisions (pair_id, dataset_id, project_id, revision, batch_id, action, before, after, undoes)
    select s.pair_id, s.dataset_id, s.project_id, private.next_revision(s.pair_id), batch, 'undo', s.after, s.before,
      s.id
    from private.last_steps(array(
      select r.pair_id from public.pair_revisions r where r.batch_id = p_batch_id
      union select p_pair_id where p_pair_id is not null)) s
    where p_batch_id is null or s.batch_id = p_batch_id;
  undone := private.apply_batch(batch, dataset.id);
  if undone = 0 then
    perform private.refuse(409, 'nothing_to_undo', 'There is no step to take back.',
      'Only the last step of a pair can be taken back; see pair_revisions.');
  end if;
  update public.review_sample_pairs s set verdict = null, judged_by = null, judged_at = null, batch_id = null
    from public.pair_revisions u join public.pair_revisions r on r.id = u.undoes
    where u.batch_id = batch and s.pair_id = r.pair_id and s.batch_id = r.batch_id;
  select count(*) into steps from public.pair_revisions r where r.batch_id = p_batch_id;
  return jsonb_build_object('batch_id', batch, 'undone', undone, 'skipped', greatest(steps - undone, 0));
end $$;

create function public.undo_review(p_batch_id uuid default null, p_pair_id uuid default null) returns jsonb
language sql set search_path = '' as $$
  select private.undo_review(p_batch_id, p_pair_id)
$$;
comment on function public.undo_review(uuid, uuid) is
  'For editors: takes back what a call of edit_pair, review_pairs or apply_fix did, or the last step of one pair.'
  ' {batch_id, undone, skipped}: skipped are pairs that were changed since.';
revoke execute on function public.undo_review(uuid, uuid) from public, anon;
grant execute on function public.undo_review(uuid, uuid), private.undo_review(uuid, uuid) to authenticated;
