-- A batch that its vendor turns away waits, as long as the vendor asked for, and its row says why. These steps
-- replace those of 20261129000330_batch_steps.sql.

alter table public.generation_batches
  add column tried_at timestamptz,
  add column next_look_at timestamptz not null default now(),
  add column waiting_since timestamptz,
  add column last_error jsonb,
  add column is_stop_known boolean not null default false;
comment on column public.generation_batches.tried_at is 'When somebody last began to submit it; null: nobody has.';
comment on column public.generation_batches.next_look_at is 'Nobody asks the vendor about it before.';
comment on column public.generation_batches.waiting_since is
  'Since when the vendor has turned away whoever asked; null: it goes on.';
comment on column public.generation_batches.last_error is 'Why it waits, {code, message}; null: it goes on.';
comment on column public.generation_batches.is_stop_known is
  'Whether the dataset was to stop when it was last claimed. A stop that nobody knows of ends its wait.';
comment on column public.training_datasets.warning is
  'Of a generated dataset, {code, message}. While it is generating: why its batch waits. Ready: why it holds less than it could. null: nothing.';

-- The batch of the dataset that has not ended, or else a new one of open chunks, under a lease: {batch, chunks,
-- age_seconds, tried_seconds, waited_seconds}: since it was intended, last tried, and began to wait (0: it goes on).
-- null: there is none, somebody has it in hand, or it is not to be looked at yet.
create or replace function public.claim_generation_batch(p_dataset_id uuid, p_limit integer, p_lease_seconds integer)
returns jsonb language plpgsql set search_path = '' as $$
declare
  dataset public.training_datasets;
  batch public.generation_batches;
  affordable integer;
begin
  select * into dataset from public.training_datasets where id = p_dataset_id for no key update;
  if dataset.id is null or dataset.status <> 'generating' then
    return null;
  end if;
  select * into batch from public.generation_batches b
    where b.dataset_id = p_dataset_id and b.status in ('intended', 'submitted') order by b.intended_at limit 1;
  if batch.id is null then
    if dataset.stop_requested_at is not null then
      return null;
    end if;
    affordable := coalesce(private.affordable_chunks(dataset), p_limit);
    if affordable <= 0 then
      perform private.stop_at_cap(p_dataset_id);
      return null;
    end if;
    insert into public.generation_batches (dataset_id, project_id, request_count)
      values (dataset.id, dataset.project_id, 0) returning * into batch;
    update public.dataset_chunks w
      set status = 'working', batch_id = batch.id, lease_token = null, lease_expires_at = null,
          attempts = w.attempts + 1, updated_at = now()
      where w.id in (
        select o.id from public.dataset_chunks o
        where o.dataset_id = p_dataset_id and not o.is_answered
          and (o.status = 'pending' or (o.status = 'working' and o.lease_expires_at < now()))
        order by o.ordinal limit least(p_limit, affordable));
    if not found then
      delete from public.generation_batches where id = batch.id;
      return null;
    end if;
  elsif batch.lease_expires_at > now() or (batch.next_look_at > now()
      and (dataset.stop_requested_at is null or batch.is_stop_known)) then
    return null;
  end if;
  update public.generation_batches b set lease_token = gen_random_uuid(),
      lease_expires_at = now() + make_interval(secs => p_lease_seconds),
      is_stop_known = dataset.stop_requested_at is not null,
      request_count = (select count(*) from public.dataset_chunks w where w.batch_id = b.id)
    where b.id = batch.id returning * into batch;
  return jsonb_build_object('batch', to_jsonb(batch), 'age_seconds', extract(epoch from now() - batch.intended_at),
    'tried_seconds', extract(epoch from now() - coalesce(batch.tried_at, batch.intended_at)),
    'waited_seconds', coalesce(extract(epoch from now() - batch.waiting_since), 0),
    'chunks', (select jsonb_agg(jsonb_build_object('id', w.id, 'attempts', w.attempts, 'ordinal', w.ordinal,
        'variant', w.variant, 'chunk_id', k.id, 'document_id', k.document_id, 'content', k.content,
        'char_start', k.char_start, 'char_end', k.char_end, 'heading_path', k.heading_path,
        'injection_flags', k.injection_flags) order by w.ordinal)
      from public.dataset_chunks w join public.chunks k on k.id = w.chunk_id where w.batch_id = batch.id));
end $$;

-- Columns of the batch that are to change; its lease goes with p_release. false: the lease was lost.
-- With last_error in p_changes it waits for wait_seconds, and its dataset says why; with a null one it goes on.
create or replace function public.save_generation_batch(
  p_batch_id uuid, p_lease_token uuid, p_changes jsonb, p_release boolean
) returns boolean language plpgsql set search_path = '' as $$
declare
  why jsonb := nullif(p_changes -> 'last_error', 'null');
begin
  if p_changes ? 'last_error' then
    -- Locked before its batch, as whoever claims that locks them.
    perform from public.training_datasets d join public.generation_batches b on b.dataset_id = d.id
      where b.id = p_batch_id for no key update of d;
  end if;
  update public.generation_batches b set
      status = coalesce(p_changes ->> 'status', b.status),
      provider_batch_id = case when p_changes ? 'provider_batch_id' then p_changes ->> 'provider_batch_id'
        else b.provider_batch_id end,
      not_ours = case when p_changes ? 'not_ours' then array_append(b.not_ours, p_changes ->> 'not_ours')
        else b.not_ours end,
      attempts = b.attempts + coalesce((p_changes ->> 'attempts')::integer, 0),
      tried_at = case when (p_changes ->> 'attempts')::integer > 0 then now() else b.tried_at end,
      submitted_at = case when p_changes ->> 'status' = 'submitted' then coalesce(b.submitted_at, now())
        else b.submitted_at end,
      last_error = case when p_changes ? 'last_error' then why else b.last_error end,
      waiting_since = case when not p_changes ? 'last_error' then b.waiting_since
        when why is not null then coalesce(b.waiting_since, now()) end,
      next_look_at = now() + make_interval(secs => coalesce((p_changes ->> 'wait_seconds')::double precision, 0)),
      lease_token = case when p_release then null else b.lease_token end,
      lease_expires_at = case when p_release then null else b.lease_expires_at end
    where b.id = p_batch_id and b.lease_token = p_lease_token;
  if not found then
    return false;
  end if;
  if p_changes ? 'last_error' then
    update public.training_datasets d set warning = case when why is not null then jsonb_build_object(
          'code', 'batch_waits', 'message', 'Its batch waits: ' || (why ->> 'message')) end
      from public.generation_batches b
      where b.id = p_batch_id and d.id = b.dataset_id and d.status = 'generating'
        and (why is not null or d.warning is not null);
  end if;
  return true;
end $$;

-- The batch has ended: pairs can be made of what was answered; the rest is open again, or failed with its error
-- after so many attempts. p_failed: {id of the work item: error}.
create or replace function public.end_generation_batch(p_batch_id uuid, p_lease_token uuid, p_answered uuid[],
  p_failed jsonb, p_most_attempts integer, p_error jsonb default null
) returns boolean language plpgsql set search_path = '' as $$
declare
  batch public.generation_batches;
  given_up integer;
begin
  -- Locked before its batch, as whoever claims that locks them.
  perform from public.training_datasets d join public.generation_batches b on b.dataset_id = d.id
    where b.id = p_batch_id for no key update of d;
  update public.generation_batches set status = case when p_error is null then 'ended' else 'failed' end,
      error = p_error, ended_at = now(), lease_token = null, lease_expires_at = null,
      waiting_since = null, last_error = null
    where id = p_batch_id and lease_token = p_lease_token returning * into batch;
  if not found then
    return false;
  end if;
  update public.dataset_chunks set status = 'pending', batch_id = null, is_answered = true, attempts = 0, updated_at = now()
    where batch_id = batch.id and id = any (p_answered) and status = 'working';
  -- Not what has failed meanwhile: its document was withdrawn.
  update public.dataset_chunks w set batch_id = null where w.batch_id = batch.id and w.status <> 'working';
  update public.dataset_chunks w set batch_id = null, updated_at = now(),
      error = coalesce(p_failed -> w.id::text, p_error, '{"code": "not_answered", "message": "The batch brought no answer."}'),
      status = case when w.attempts >= p_most_attempts then 'failed' else 'pending' end
    where w.batch_id = batch.id;
  select count(*) into given_up from public.dataset_chunks w
    where w.dataset_id = batch.dataset_id and w.status = 'failed';
  update public.training_datasets set chunks_failed = given_up, warning = null where id = batch.dataset_id;
  return true;
end $$;
