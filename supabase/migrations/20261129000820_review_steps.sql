-- What every step of a review shares. A step is one transaction and one batch of revisions: what is to change is
-- written down first, then done from what was written.

-- The dataset, locked: reviewers of one dataset wait for one another, and no training starts meanwhile. Refused to
-- who is no editor of it, and while its pairs must stay as they are: what is being trained on is read again where a
-- start is repeated, what is being made is not whole yet. After a training it is open again; the model is of the
-- file that it was trained on.
create function private.dataset_under_review(p_dataset_id uuid) returns public.training_datasets
language plpgsql set search_path = '' as $$
declare
  dataset public.training_datasets;
begin
  select * into dataset from public.training_datasets
    where id = p_dataset_id and project_id in (select private.my_projects());
  if not found then
    perform private.refuse(404, 'dataset_not_found', 'There is no such dataset.');
  end if;
  if dataset.project_id not in (select private.my_projects('editor')) then
    perform private.refuse(403, 'forbidden', 'Reviewing needs the role editor in the project.');
  end if;
  select * into dataset from public.training_datasets where id = p_dataset_id for no key update;
  if dataset.status not in ('draft', 'ready', 'failed') then
    perform private.refuse(409, 'dataset_is_' || dataset.status,
      format('The dataset is %s; its pairs stay as they are meanwhile.', dataset.status),
      case when dataset.status = 'archived' then null else 'Wait until it is ready, or cancel what runs.' end);
  end if;
  return dataset;
end $$;

-- The dataset of a pair, as above.
create function private.dataset_of_pair(p_pair_id uuid) returns public.training_datasets
language plpgsql set search_path = '' as $$
declare
  found_id uuid := coalesce(
    (select dataset_id from public.training_pairs where id = p_pair_id),
    (select dataset_id from public.pair_revisions where pair_id = p_pair_id limit 1));
begin
  if found_id is null or not exists (select from public.training_datasets
      where id = found_id and project_id in (select private.my_projects())) then
    perform private.refuse(404, 'pair_not_found', 'There is no such pair.');
  end if;
  return private.dataset_under_review(found_id);
end $$;

-- What the row of the dataset says about its pairs. Its last validation was of other pairs, and so was its split.
create function private.count_pairs(p_dataset_id uuid) returns void
language sql set search_path = '' as $$
  update public.training_datasets d set pair_count = c.pairs, validation = null, content_hash = null,
      stats = d.stats || jsonb_build_object('total_pairs', c.pairs, 'valid_pairs', c.valid,
        'avg_quality_score', c.quality, 'total_tokens', c.tokens, 'avg_tokens_per_pair', c.tokens_each)
    from (
      select count(*) as pairs, count(*) filter (where p.is_valid) as valid,
        round(avg(p.quality_score)::numeric, 4) as quality, coalesce(sum(p.token_count), 0) as tokens,
        coalesce(round(avg(p.token_count), 2), 0) as tokens_each
      from public.training_pairs p where p.dataset_id = p_dataset_id
    ) c
    where d.id = p_dataset_id
$$;

-- Puts deleted pairs back as they were, in the columns that there still are. One whose place another has taken
-- stays away, and its revision goes. A chunk that is gone is left out, as it would be had the pair stayed.
create function private.put_back(p_batch_id uuid) returns void
language plpgsql set search_path = '' as $$
declare
  names text;
begin
  select string_agg(quote_ident(a.attname), ', ') into names from pg_catalog.pg_attribute a
    where a.attrelid = 'public.training_pairs'::regclass and a.attnum > 0 and not a.attisdropped
      and a.attgenerated = '' and a.attname in (
        select jsonb_object_keys(r.after) from public.pair_revisions r
        where r.batch_id = p_batch_id and r.before is null);
  if names is null then
    return;
  end if;
  execute format($insert$
    insert into public.training_pairs (%1$s) select %1$s from (
      select pair.* from public.pair_revisions r
      left join public.chunks k on k.id = (r.after ->> 'chunk_id')::uuid
      cross join lateral jsonb_populate_record(
        null::public.training_pairs, r.after || jsonb_build_object('chunk_id', k.id, 'revision', r.revision)) pair
      where r.batch_id = $1 and r.before is null
    ) pairs on conflict do nothing $insert$, names) using p_batch_id;
  delete from public.pair_revisions r where r.batch_id = p_batch_id and r.before is null
    and not exists (select from public.training_pairs p where p.id = r.pair_id);
end $$;

-- Does what the revisions of a batch say. The number of pairs that changed.
create function private.apply_batch(p_batch_id uuid, p_dataset_id uuid) returns integer
language plpgsql set search_path = '' as $$
declare
  changed integer;
begin
  delete from public.training_pairs p using public.pair_revisions r
    where r.batch_id = p_batch_id and r.after is null and p.id = r.pair_id;
  perform private.put_back(p_batch_id);
  update public.training_pairs p set (revision, messages, system_message, user_message, assistant_message,
      rejected_message, token_count, quality_score, grounding_score, judge_score, is_valid, issues, issue_details,
      review_status, is_gold_star, rating) = (
        select r.revision, n.messages, n.system_message, n.user_message, n.assistant_message, n.rejected_message,
          n.token_count, n.quality_score, n.grounding_score, n.judge_score, n.is_valid, n.issues, n.issue_details,
          n.review_status, n.is_gold_star, n.rating
        from jsonb_populate_record(p, r.after) n)
    from public.pair_revisions r
    where r.batch_id = p_batch_id and r.before is not null and r.after is not null and p.id = r.pair_id;
  select count(*) into changed from public.pair_revisions where batch_id = p_batch_id;
  -- What is trained on changed: not by an approval, nor by a star or a rating.
  if exists (select from public.pair_revisions where batch_id = p_batch_id and (before is null or after is null
      or before ? 'is_valid' or 'rejected' in (before ->> 'review_status', after ->> 'review_status'))) then
    perform private.count_pairs(p_dataset_id);
  end if;
  return changed;
end $$;
