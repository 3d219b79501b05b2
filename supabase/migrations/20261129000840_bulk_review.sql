-- Many pairs approved, rejected, marked, rated, deleted or restored at once, by their ids or by a filter.

-- What a filter may name. Refuses the rest, so that a misspelt condition never widens what is changed.
create function private.checked_filter(filter jsonb) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  known constant text[] := '{review_status,is_valid,is_gold_star,kind,split,issue,min_quality,max_quality,min_rating}'
    || '{document_id,search}'::text[];
begin
  if jsonb_typeof(filter) is distinct from 'object' or filter - known <> '{}' then
    perform private.refuse(422, 'invalid_filter',
      format('A filter is an object of %s.', array_to_string(known, ', ')), 'An empty object means all pairs.');
  end if;
  return filter;
end $$;

-- The ids of the pairs that meet every condition. `search` is looked for in all that is said, in any case.
create function private.filtered_pairs(p_dataset_id uuid, f jsonb) returns setof uuid
language sql stable rows 20000 set search_path = '' as $$
  select p.id from public.training_pairs p
  where p.dataset_id = p_dataset_id
    and (f ->> 'review_status' is null or p.review_status = f ->> 'review_status')
    and (f ->> 'is_valid' is null or p.is_valid = (f ->> 'is_valid')::boolean)
    and (f ->> 'is_gold_star' is null or p.is_gold_star = (f ->> 'is_gold_star')::boolean)
    and (f ->> 'kind' is null or p.kind = f ->> 'kind')
    and (f ->> 'split' is null or p.split = f ->> 'split')
    and (f ->> 'issue' is null or f ->> 'issue' = any (p.issues))
    and (f ->> 'min_quality' is null or p.quality_score >= (f ->> 'min_quality')::real)
    and (f ->> 'max_quality' is null or p.quality_score <= (f ->> 'max_quality')::real)
    and (f ->> 'min_rating' is null or p.rating >= (f ->> 'min_rating')::smallint)
    and (f ->> 'document_id' is null or p.document_id = (f ->> 'document_id')::uuid)
    and (f ->> 'search' is null or strpos(lower(concat_ws(E'\n', p.system_message, p.user_message, p.assistant_message,
      p.rejected_message, case when p.messages is not null then (
        select string_agg(t ->> 'content', E'\n') from jsonb_array_elements(p.messages) t) end)),
      lower(f ->> 'search')) > 0)
$$;

-- The one column that an action sets, and to what; null: the whole row goes or comes.
create function private.action_sets(p_action text, p_rating integer) returns jsonb
language plpgsql immutable set search_path = '' as $$
begin
  case p_action
    when 'approve' then return '{"review_status": "approved"}';
    when 'reject' then return '{"review_status": "rejected"}';
    when 'reset' then return '{"review_status": "pending"}';
    when 'gold_star' then return '{"is_gold_star": true}';
    when 'no_gold_star' then return '{"is_gold_star": false}';
    when 'rate' then
      if p_rating not between 1 and 5 then
        perform private.refuse(422, 'invalid_rating', 'A rating is 1 to 5, or null to take it away.');
      end if;
      return jsonb_build_object('rating', p_rating);
    when 'delete', 'restore' then return null;
    else
      perform private.refuse(422, 'invalid_action',
        'An action is approve, reject, reset, gold_star, no_gold_star, rate, delete or restore.');
  end case;
end $$;

-- The column of an action as it is now; of delete the whole row.
create function private.before_action(pair public.training_pairs, p_action text) returns jsonb
language sql immutable set search_path = '' as $$
  select case
    when p_action = 'delete' then to_jsonb(pair)
    when p_action = 'rate' then jsonb_build_object('rating', pair.rating)
    when p_action in ('gold_star', 'no_gold_star') then jsonb_build_object('is_gold_star', pair.is_gold_star)
    else jsonb_build_object('review_status', pair.review_status) end
$$;

-- Which pairs a call means, and which of them it changes.
create function private.meant_pairs(
  p_dataset_id uuid, p_action text, p_pair_ids uuid[], p_filter jsonb, sets jsonb, out matched integer, out due uuid[]
) language plpgsql set search_path = '' as $$
begin
  if (p_pair_ids is null) = (p_filter is null) or (p_action = 'restore' and p_filter <> '{}') then
    perform private.refuse(422, 'invalid_request', 'Say which pairs: by their ids, or by a filter.',
      'What is deleted is known by its id only; with restore, the filter {} means all of it.');
  elsif p_action = 'restore' then
    due := array(
      select distinct r.pair_id from public.pair_revisions r
      where r.dataset_id = p_dataset_id and r.after is null
        and (p_pair_ids is null or r.pair_id in (select unnest(p_pair_ids)))
        and not exists (select from public.training_pairs p where p.id = r.pair_id));
    matched := cardinality(due);
  else
    if p_filter is not null then
      p_pair_ids := array(select private.filtered_pairs(p_dataset_id, private.checked_filter(p_filter)));
    end if;
    select count(*), coalesce(array_agg(p.id) filter (where case
        when p_action = 'delete' then true
        when p_action = 'rate' then p.rating is distinct from (sets ->> 'rating')::smallint
        when p_action in ('gold_star', 'no_gold_star') then p.is_gold_star <> (sets ->> 'is_gold_star')::boolean
        else p.review_status <> sets ->> 'review_status' end), '{}')
      into matched, due from public.training_pairs p
      where p.dataset_id = p_dataset_id and p.id in (select unnest(p_pair_ids));
  end if;
end $$;

create function private.review_pairs(
  p_dataset_id uuid, p_action text, p_pair_ids uuid[], p_filter jsonb, p_rating integer
) returns jsonb language plpgsql security definer set search_path = '' as $$
declare
  -- A hosted project ends the statement of a user after eight seconds.
  most constant integer := 5000;
  dataset public.training_datasets := private.dataset_under_review(p_dataset_id);
  sets jsonb := private.action_sets(p_action, p_rating);
  batch uuid := gen_random_uuid();
  matched integer;
  due uuid[];
  changed integer;
begin
  select m.matched, m.due into matched, due
    from private.meant_pairs(p_dataset_id, p_action, p_pair_ids, p_filter, sets) m;
  if p_action = 'restore' then
    insert into public.pair_revisions (pair_id, dataset_id, project_id, revision, batch_id, action, before, after)
      select s.pair_id, p_dataset_id, dataset.project_id, private.next_revision(s.pair_id), batch, 'restore', null,
        s.before
      from private.last_steps(due[1:most]) s where s.action = 'delete';
  else
    insert into public.pair_revisions (pair_id, dataset_id, project_id, revision, batch_id, action, before, after)
      select p.id, p_dataset_id, dataset.project_id, p.revision + 1, batch, p_action,
        private.before_action(p, p_action), sets
      from public.training_pairs p where p.id in (select unnest(due[1:most]));
  end if;
  changed := private.apply_batch(batch, p_dataset_id);
  if p_action in ('reject', 'delete') then
    perform private.judge_sample(batch, p_dataset_id, 'bad', p_pair_ids);
  elsif p_action = 'approve' and p_pair_ids is not null then
    perform private.judge_sample(batch, p_dataset_id, 'good', p_pair_ids);
  end if;
  return jsonb_build_object('batch_id', case when changed > 0 then batch end,
    'matched', matched, 'changed', changed, 'remaining', cardinality(due) - changed);
end $$;

create function public.review_pairs(
  p_dataset_id uuid, p_action text, p_pair_ids uuid[] default null, p_filter jsonb default null,
  p_rating integer default null
) returns jsonb language sql set search_path = '' as $$
  select private.review_pairs(p_dataset_id, p_action, p_pair_ids, p_filter, p_rating)
$$;
comment on function public.review_pairs(uuid, text, uuid[], jsonb, integer) is
  'For editors: approve, reject, reset (to pending), gold_star, no_gold_star, rate (p_rating 1-5, or null), delete or'
  ' restore pairs by their ids or a filter. {batch_id, matched, changed, remaining}: at most 5,000 pairs change in a call, and'
  ' so many remain to be changed by calling it again.';
revoke execute on function public.review_pairs(uuid, text, uuid[], jsonb, integer) from public, anon;
grant execute on function public.review_pairs(uuid, text, uuid[], jsonb, integer),
  private.review_pairs(uuid, text, uuid[], jsonb, integer) to authenticated;
